"""One simulated run, told in plain values, and how it is run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np

from cascade_cli.observed import model_length
from cascade_cli.traces import BLOCK_TOKENS, TraceRequest
from cascade_planner.objective import Objective
from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from cascade_simulator.cluster import simulate
from cascade_simulator.options import Links, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policies.registry import make
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Transport
from cascade_simulator.workload import Request, Workload
from cascade_simulator.workloads import (
    MINUTE_MS,
    InvalidWorkload,
    compressed,
    drifting,
    rate_for,
    stationary,
    thinned,
)

LENGTH_BLIND: Final = frozenset(
    {
        "round-robin",
        "random",
        "least-requests",
        "least-tokens",
        "least-work",
        "sticky",
        "llumnix-dispatch",
        "llumnix",
        "llumnix-balanced",
    }
)
"""Policies that choose an instance without regard to the lengths of what runs there."""
DEFAULT_ENGINE: Final = profile("h100-8b")
KNOWN_SHARE: Final = 1 / 6
"""Part of drifting traffic from which a plan is made before the run."""
SAMPLES: Final = 500
"""Samples of the load in one run."""
LONGEST: Final = 131_072
"""The model's limit, unless the trace holds longer requests."""


class Pace(StrEnum):
    """How the requests of a trace arrive."""

    STATIONARY = "stationary"
    """Drawn at random, Poisson arrivals: nothing changes over time."""
    COMPRESSED = "compressed"
    """In the order of the trace, times scaled to the load: minutes become seconds."""
    DRIFTING = "drifting"
    """At the speed of the trace, each minute drawn anew at the rate that the load asks for."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a run is made from, beside the trace. Equal scenarios give equal outcomes."""

    policy: str
    load: float = 0.7
    seed: int = 1
    pace: Pace = Pace.STATIONARY
    requests: int = 5000
    instances: int = 16
    engine: EngineModel = DEFAULT_ENGINE
    heterogeneity: float | None = None
    """Slope of the attention penalty; None: the engine's."""
    ttft_target_ms: float = 2000.0
    tpot_target_ms: float = 50.0
    transport: Transport = Transport.RECOMPUTE
    bytes_per_ms: float = 25e6
    stale_ms: float = 0.0
    prefix_cache: bool = False
    believed: tuple[tuple[str, float], ...] = ()
    """Factors on coefficients of the engine model, by name, that policies believe in wrongly."""
    tuned: tuple[tuple[str, float], ...] = ()
    """Values of the policy's setup, by name, that differ from its defaults."""

    @property
    def true_engine(self) -> EngineModel:
        """The engine that runs."""
        if self.heterogeneity is None:
            return self.engine
        return replace(self.engine, heterogeneity=self.heterogeneity)

    @property
    def believed_engine(self) -> EngineModel:
        """The engine as policies know it."""
        engine = self.true_engine
        wrong = {name: getattr(engine, name) * factor for name, factor in self.believed}
        return replace(engine, **wrong)

    @property
    def links(self) -> Links:
        """What hand-overs go over."""
        return Links(transport=self.transport, bytes_per_ms=self.bytes_per_ms)


def is_length_blind(policy: str) -> bool:
    """Whether a policy neither places nor moves by length; knowing prefixes is no hindrance."""
    base, *modifiers = policy.split("+")
    return base in LENGTH_BLIND and set(modifiers) <= {"prefix"}


def make_workload(scenario: Scenario, rows: Sequence[TraceRequest]) -> Workload:
    """The requests of a run; equal for all policies. Raises InvalidWorkload."""
    if scenario.pace is not Pace.STATIONARY and math.isnan(rows[0].arrival):
        raise InvalidWorkload(
            f"it tells no arrival times, which {scenario.pace} traffic needs: use stationary "
            "traffic, or give the trace three columns, arrival,prompt,output"
        )
    draw = np.random.default_rng(scenario.seed)
    trace = _requests(rows)
    engine, instances, load = scenario.engine, scenario.instances, scenario.load
    name, count = str(scenario.pace), scenario.requests
    if scenario.pace is Pace.STATIONARY:
        per_ms = rate_for(trace, engine, instances, load)
        return stationary(name, trace, count, per_ms, draw, BLOCK_TOKENS)
    if scenario.pace is Pace.COMPRESSED:
        choose = _conversations if scenario.prefix_cache else thinned
        return compressed(name, choose(trace, count, draw), engine, instances, load, BLOCK_TOKENS)
    minutes = _minutes(trace, scenario)
    return drifting(name, trace, engine, instances, load, (0, minutes), draw)


def run_scenario(scenario: Scenario, workload: Workload) -> Outcome:
    """Simulate one policy on a workload. Raises UnknownPolicy, InvalidRun."""
    duration = workload.duration_ms
    longest = max(one.prompt + one.output for one in workload.requests)
    max_length = max(LONGEST, model_length(longest))
    setup = Setup(
        engine=scenario.believed_engine,
        instances=scenario.instances,
        max_length=max_length,
        traffic=_known_traffic(scenario, workload, max_length),
        objective=Objective(
            ttft_target_ms=scenario.ttft_target_ms, tpot_target_ms=scenario.tpot_target_ms
        ),
        links=scenario.links,
    )
    options = RunOptions(
        links=scenario.links,
        stale_ms=scenario.stale_ms,
        prefix_cache=scenario.prefix_cache,
        believed=scenario.believed_engine if scenario.believed else None,
        sample_ms=max(100.0, duration / SAMPLES),
    )
    policy = make(scenario.policy, replace(setup, **_tuned(scenario)))
    luck = np.random.default_rng((scenario.seed, 1)).random
    return simulate(workload, scenario.true_engine, scenario.instances, policy, options, luck)


def _requests(rows: Sequence[TraceRequest]) -> list[Request]:
    """In order of arrival; as they stand where the trace tells no times."""
    if not math.isnan(rows[0].arrival):
        rows = sorted(rows, key=lambda row: row.arrival)
    return [
        Request(1000 * row.arrival, row.prompt_tokens, row.output_tokens, row.blocks)
        for row in rows
    ]


def _conversations(
    trace: Sequence[Request], count: int, draw: np.random.Generator
) -> Sequence[Request]:
    """Neighbouring requests of the trace: drawn one by one, later turns would lose the earlier
    ones, and with them their prefixes."""
    start = int(draw.integers(max(1, len(trace) - count + 1)))
    return trace[start : start + count]


def _minutes(trace: Sequence[Request], scenario: Scenario) -> int:
    """As many minutes of the trace as hold about the wanted number of requests."""
    span = trace[-1].arrival_ms - trace[0].arrival_ms
    whole = max(1, int(span // MINUTE_MS))
    per_ms = rate_for(trace, scenario.engine, scenario.instances, scenario.load)
    return min(whole, max(1, round(scenario.requests / (per_ms * MINUTE_MS))))


def _known_traffic(scenario: Scenario, workload: Workload, max_length: int) -> Traffic | None:
    """What plans are made from before the run: everything, or the beginning of what drifts."""
    span = workload.duration_ms
    if scenario.pace is Pace.DRIFTING:
        span *= KNOWN_SHARE
    known = [one for one in workload.requests if one.arrival_ms <= span]
    traffic = Traffic.from_lengths(
        [one.prompt for one in known],
        [one.prompt + one.output for one in known],
        max(span / 1000, 1e-3),
        max_length,
    )
    return None if isinstance(traffic, TrafficProblem) else traffic


def _tuned(scenario: Scenario) -> dict[str, Any]:
    return {name: int(value) if name == "slice_tokens" else value for name, value in scenario.tuned}
