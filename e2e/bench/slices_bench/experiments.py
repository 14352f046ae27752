"""What is compared: schedulers over engines, lengths, rates, slices, instances and contexts."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import numpy as np

from cascade_simulator.static_batching.engine import DEEPSPEED, TRANSFORMERS
from cascade_simulator.static_batching.estimator import errors, grid, profiled
from cascade_simulator.static_batching.outcome import StaticOutcome
from cascade_simulator.static_batching.schedulers import SCHEDULERS, Setting, simulate
from cascade_simulator.static_batching.workloads import CODE_ASSISTANT, drawn, sampled
from cascade_simulator.workload import Workload
from e2e.bench.slices_bench.interval import Interval
from e2e.traces.trace import read_trace

ENGINES: Final = (DEEPSPEED, TRANSFORMERS)
LENGTHS: Final = ("code", "azure")
SATURATING: Final = 10.0
"""Requests per second and instance: more than any of the schedulers can serve."""
RATES: Final = (2.5, 5.0, 10.0, 15.0)
ROUNDS: Final = (0.25, 1.0, 3.0, 6.0)
"""Gamma in seconds."""
SLICES: Final = (32, 64, 128, 256, 512, 1024)
INSTANCES: Final = (1, 2, 4, 8, 16)
BATCH_LIMITS: Final = (2, 4, 8, 12, 16, 26)
CONTEXTS: Final = (1, 2, 4, 8, 16)
"""Prompts (median 250, at most 1,024 tokens) are so many times longer."""
PAPER: Final = ("SLS", "ILS", "SCLS")
RIVALS: Final = ("SLS", "ILS", "ILS-paged", "SCLS")
HELD_OUT: Final = ((1, 3, 6, 12, 24, 48, 96), (64, 200, 400, 800, 1200, 1800))
"""(batch sizes, lengths) that are not in the estimator's profile."""


PLAIN: Final = Setting()
NAMES: Final = {
    "deepspeed": "fused kernels (DeepSpeed-like)",
    "transformers": "eager Python (Transformers-like)",
    "code": "code-assistant lengths",
    "azure": "Azure conversation lengths, cut at 1,024",
}
"""Engines and lengths in words."""


@dataclass(frozen=True, slots=True)
class Row:
    """A scheduler in one cell of an experiment."""

    experiment: str
    engine: str
    lengths: str
    scheduler: str
    factor: float
    """What the experiment varies; 0 when it varies nothing beside engine and lengths."""
    values: Mapping[str, Interval]
    """Metrics over the seeds by name; `gain_over_SLS` and `gain_over_ILS` are ratios of throughput
    less 1, seed by seed."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting, to be run with each seed and scheduler."""

    experiment: str
    setting: Setting = PLAIN
    lengths: str = "code"
    schedulers: tuple[str, ...] = tuple(SCHEDULERS)
    factor: float = 0.0
    context: int = 1
    per_second: float | None = None
    """None: enough to saturate all instances."""


def cells() -> list[Cell]:
    """All cells, experiment by experiment."""
    return [
        *(
            Cell("ablation", Setting(engine=engine), lengths)
            for engine in ENGINES
            for lengths in LENGTHS
        ),
        *(Cell("rate", factor=rate, per_second=rate) for rate in RATES),
        *(
            Cell("slice", replace(PLAIN, slice_tokens=tokens), factor=tokens, schedulers=PAPER)
            for tokens in SLICES
        ),
        *(
            Cell(
                "round",
                replace(PLAIN, round_ms=1e3 * seconds),
                factor=seconds,
                per_second=RATES[0],
                schedulers=PAPER,
            )
            for seconds in ROUNDS
        ),
        *(
            Cell("instances", replace(PLAIN, instances=count), factor=count, schedulers=RIVALS)
            for count in INSTANCES
        ),
        *(
            Cell("limit", replace(PLAIN, batch_limit=limit), factor=limit, schedulers=PAPER)
            for limit in BATCH_LIMITS
        ),
        *(
            Cell(
                "context",
                replace(PLAIN, prompt_limit=CODE_ASSISTANT.prompt_limit * factor),
                factor=factor,
                context=factor,
                schedulers=RIVALS,
            )
            for factor in CONTEXTS
        ),
    ]


def run(cell: Cell, requests: int, seeds: int) -> list[Row]:
    """A row for each scheduler: `requests` requests per instance, the same for all schedulers."""
    by_seed = [_one_seed(cell, requests, seed) for seed in range(seeds)]
    return [
        Row(
            cell.experiment,
            cell.setting.engine.name,
            cell.lengths,
            scheduler,
            cell.factor,
            {
                metric: Interval.of([values[scheduler][metric] for values in by_seed])
                for metric in by_seed[0][scheduler]
            },
        )
        for scheduler in cell.schedulers
    ]


def estimator_rows() -> list[Row]:
    """Mean relative errors of the fitted serving-time estimator on held-out batches."""
    rows = []
    for engine in ENGINES:
        found = errors(profiled(engine), engine, grid(engine, *HELD_OUT), PLAIN.slice_tokens)
        values = {"prefill": found.prefill, "decode": found.decode, "serve": found.serve}
        intervals = {part: Interval.of([error]) for part, error in values.items()}
        rows.append(Row("estimator", engine.name, "", "", 0.0, intervals))
    return rows


def all_rows(requests: int = 750, seeds: int = 5) -> list[Row]:
    """Everything, in about a minute."""
    return estimator_rows() + [row for cell in cells() for row in run(cell, requests, seeds)]


def _one_seed(cell: Cell, requests: int, seed: int) -> dict[str, dict[str, float]]:
    workload = _workload(cell, requests * cell.setting.instances, seed)
    values = {
        scheduler: _metrics(simulate(scheduler, workload, cell.setting))
        for scheduler in cell.schedulers
    }
    for base in ("SLS", "ILS"):
        if base in values:
            reference = values[base]["requests_per_second"]
            for metrics in values.values():
                metrics[f"gain_over_{base}"] = metrics["requests_per_second"] / reference - 1
    return values


def _workload(cell: Cell, requests: int, seed: int) -> Workload:
    random = np.random.default_rng(seed)
    per_second = cell.per_second or SATURATING * cell.setting.instances
    limits = cell.setting.prompt_limit, cell.setting.output_limit
    if cell.lengths == "azure":
        return sampled("azure", _azure_lengths(), limits, requests, per_second, random)
    lengths = replace(
        CODE_ASSISTANT,
        prompt_median=CODE_ASSISTANT.prompt_median * cell.context,
        prompt_limit=cell.setting.prompt_limit,
    )
    return drawn("code", lengths, requests, per_second, random)


@cache
def _azure_lengths() -> list[tuple[int, int]]:
    return [(request.prompt_tokens, request.output_tokens) for request in read_trace("azure")]


def _metrics(outcome: StaticOutcome) -> dict[str, float]:
    done = outcome.counters
    return {
        "requests_per_second": outcome.requests_per_second,
        "tokens_per_second": outcome.tokens_per_second,
        "mean_response_s": float(outcome.response_ms.mean()) / 1e3,
        "p95_response_s": float(np.percentile(outcome.response_ms, 95)) / 1e3,
        "invalid_per_valid": done.invalid / done.valid,
        "pad_per_valid": done.pad / done.valid,
        "prefilled_per_valid": done.prefilled / done.valid,
        "batch_size": outcome.batch_size,
        "slices": float(outcome.turns.mean()),
        "early_return_share": outcome.early_return_share,
        "completion_spread_s": outcome.completion_spread_ms / 1e3,
    }
