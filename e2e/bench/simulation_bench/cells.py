"""How one cell is answered."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from cascade_cli.scenario import Scenario, make_workload, run_scenario
from cascade_cli.traces import TraceRequest, read_trace
from cascade_policy.engine_model import EngineModel
from cascade_simulator.outcome import Floats, Outcome
from cascade_simulator.summary import attainment, in_window, summarise
from cascade_simulator.workload import Workload
from cascade_simulator.workloads import CHAT, MINUTE_MS, multi_turn, rate_for
from e2e.bench.simulation_bench.cache import Figures
from e2e.bench.simulation_bench.experiment import Cell, Measure

MEASURED: Final = (0.3, 0.95)
"""Part of a run whose arrivals count: runs begin with an empty cluster."""
SHARE_IN_TIME: Final = 0.9
"""Requests that must meet both targets."""
LOWEST_LOAD: Final = 0.4
HIGHEST_LOAD: Final = 1.04
PROBES: Final = 4
"""Halvings between them: brackets of 0.04, within which attainment is interpolated."""

CONVERSATIONS: Final = "chat"
"""Multi-turn chat from stated distributions."""
SAMPLED: Final = 2000
"""Requests of it by which the rate is set."""

_TRACES: Final = Path(__file__).parents[2] / "traces"
FILES: Final = {
    "azure": _TRACES / "azure_2023_conversation.csv.xz",
    "mooncake": _TRACES / "mooncake_conversation.jsonl.xz",
}


def answer(cell: Cell) -> Figures:
    """The figures of a cell; the same each time."""
    if cell.measure is Measure.CAPACITY:
        return {"capacity": capacity(cell)}
    return figures(_outcome(cell), cell.scenario)


def _outcome(cell: Cell) -> Outcome:
    return run_scenario(cell.scenario, _workload(cell))


def _workload(cell: Cell) -> Workload:
    scenario = cell.scenario
    if cell.trace != CONVERSATIONS:
        return make_workload(scenario, trace(cell.trace))
    draw = np.random.default_rng(scenario.seed)
    like = multi_turn(CONVERSATIONS, CHAT, SAMPLED, 1 / MINUTE_MS, draw).requests
    per_ms = rate_for(like, scenario.engine, scenario.instances, scenario.load)
    return multi_turn(CONVERSATIONS, CHAT, scenario.requests, per_ms, draw)


@lru_cache(maxsize=4)
def trace(name: str) -> tuple[TraceRequest, ...]:
    """The requests of a trace by its short name."""
    if name == "even":
        return _even(trace("azure"))
    return tuple(read_trace(FILES[name]))


def capacity(cell: Cell) -> float:
    """The load at which the share of requests in time falls below SHARE_IN_TIME.

    Between LOWEST_LOAD, where all are taken to be in time, and HIGHEST_LOAD, where none: neither is
    run, so a capacity near one of them may lie beyond it.
    """
    scenario = cell.scenario
    low, high = LOWEST_LOAD, HIGHEST_LOAD
    at_low, at_high = 1.0, 0.0
    for _ in range(PROBES):
        middle = (low + high) / 2
        outcome = _outcome(replace(cell, scenario=replace(scenario, load=middle)))
        share = in_time(outcome, scenario)
        if share >= SHARE_IN_TIME:
            low, at_low = middle, share
        else:
            high, at_high = middle, share
    return low + (high - low) * (at_low - SHARE_IN_TIME) / (at_low - at_high)


def in_time(outcome: Outcome, scenario: Scenario) -> float:
    """The share of requests that met both targets."""
    return attainment(outcome, scenario.ttft_target_ms, scenario.tpot_target_ms, MEASURED)


def figures(outcome: Outcome, scenario: Scenario) -> Figures:
    """Everything that tables show of a run. Times in ms."""
    summary = summarise(outcome, MEASURED)
    chosen = in_window(outcome, MEASURED)
    slowness = (outcome.e2e_ms / idle_ms(outcome, scenario.engine))[chosen]
    found = {
        "in_time": in_time(outcome, scenario),
        "within_5x": float((slowness <= 5).mean()),
        "within_20x": float((slowness <= 20).mean()),
        "handovers": summary.handovers_per_request,
        "preemptions": 1000 * outcome.counters.preemptions / outcome.prompt.size,
        "prefilled_share": outcome.counters.prefilled / float(outcome.prompt.sum()),
        "unfinished": float(np.isnan(outcome.end_ms).sum()),
    }
    for name, times in (
        ("ttft", summary.ttft_ms),
        ("tpot", summary.tpot_ms),
        ("e2e", summary.e2e_ms),
        ("normalised", summary.normalised_ms),
    ):
        found |= {f"{name}_mean": times.mean, f"{name}_p99": times.p99}
    return found


def idle_ms(outcome: Outcome, engine: EngineModel) -> Floats:
    """How long each request would take on an instance that has nothing else to do."""
    prompt, output = outcome.prompt.astype(np.float64), outcome.output.astype(np.float64)
    chunks = np.ceil(prompt / engine.chunk_tokens)
    prefill = chunks * engine.base_ms + (
        engine.prefill_ms_per_token * prompt
        + engine.prefill_ms_per_token_squared * prompt * prompt / 2
    )
    steps = output - 1
    decode = steps * (
        engine.base_ms + engine.per_sequence_ms + engine.per_kv_token_ms * (prompt + output / 2)
    )
    alone: Floats = prefill + decode
    return alone


def _even(rows: tuple[TraceRequest, ...]) -> tuple[TraceRequest, ...]:
    """The same arrivals, every request with the mean prompt and answer."""
    prompt = round(sum(row.prompt_tokens for row in rows) / len(rows))
    output = round(sum(row.output_tokens for row in rows) / len(rows))
    return tuple(TraceRequest(row.arrival, prompt, output) for row in rows)
