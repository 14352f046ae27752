"""Measures one plan: the time from histograms, and its distance from the best."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from cascade_planner import min_plus, price_search
from cascade_planner.histogram import LengthHistogram
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import Plan, PlanOptions, candidate_ends, solve
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.profiles import profile
from e2e.traces.trace import read_trace

MAX_LENGTH: Final = 131072
LOAD: Final = 0.7
"""Share of the stability limit of one pool that the traffic is played at."""
PROFILE: Final = "h100-8b"


@dataclass(frozen=True, slots=True)
class Histograms:
    """What Prometheus would hold about a trace, played at some rate."""

    prompt: LengthHistogram
    final: LengthHistogram
    decoded: tuple[tuple[float, float], ...]
    window_seconds: float

    def traffic(self) -> Traffic:
        """The traffic that the planner makes of it."""
        return _checked(
            Traffic.from_histograms(
                self.prompt,
                self.final,
                MAX_LENGTH,
                decoded=self.decoded,
                window_seconds=self.window_seconds,
            )
        )


@dataclass(frozen=True, slots=True)
class Measurement:
    """One trace on one number of instances."""

    trace: str
    instances: int
    median_ms: float
    p95_ms: float
    solver: str
    stages: int
    gain_percent: float
    """Cost saved against one stage."""
    gap_bound_percent: float
    """How much cheaper the best partition may be, by what the search proves."""
    price_gap_percent: float | None
    """How much dearer than the best the search by price is, whether or not the plan comes from it;
    none where the best was not searched for."""


def measure(
    trace: str, instances: int, repeat: int, exact_up_to: int, clock: Callable[[], float]
) -> Measurement:
    """Plan `repeat` times; search exactly as well where there are few enough instances.

    `clock` gives seconds. The first plan is not counted: it fills caches.
    """
    histograms = histograms_of(trace, instances)
    plan = _plan(histograms, instances)
    spent_ms = []
    for _ in range(repeat):
        start = clock()
        _plan(histograms, instances)
        spent_ms.append(1000 * (clock() - start))
    return Measurement(
        trace=trace,
        instances=instances,
        median_ms=statistics.median(spent_ms),
        p95_ms=float(np.percentile(spent_ms, 95)),
        solver=str(plan.solver),
        stages=len(plan.stages),
        gain_percent=plan.gain_percent,
        gap_bound_percent=plan.gap_percent,
        price_gap_percent=(
            _price_gap(histograms.traffic(), instances) if instances <= exact_up_to else None
        ),
    )


def histograms_of(trace: str, instances: int) -> Histograms:
    """The trace at LOAD of what one pool of so many instances can take."""
    prompts, finals = _lengths(trace)
    at_one = _checked(Traffic.from_lengths(prompts, finals, len(prompts), MAX_LENGTH))
    pool = Partition((MAX_LENGTH,), (instances,))
    _, state = Pricing(at_one, profile(PROFILE), Objective()).forecast(pool)
    seconds = len(prompts) * float(state.load[0]) / LOAD
    traffic = _checked(Traffic.from_lengths(prompts, finals, seconds, MAX_LENGTH))
    return Histograms(
        LengthHistogram.of_lengths(prompts, seconds, MAX_LENGTH),
        LengthHistogram.of_lengths(finals, seconds, MAX_LENGTH),
        tuple(zip(traffic.bounds[1:].tolist(), traffic.decoded.tolist(), strict=True)),
        seconds,
    )


def _plan(histograms: Histograms, instances: int) -> Plan:
    return solve(histograms.traffic(), profile(PROFILE), instances)


def _price_gap(traffic: Traffic, instances: int) -> float:
    """Percent by which the search by price exceeds the exact one."""
    options = PlanOptions()
    lengths = candidate_ends(traffic, options)
    costs = Pricing(traffic, profile(PROFILE), Objective()).stages_between(lengths)
    stage_counts = range(1, options.max_stages + 1)
    tensor = min_plus.cost_tensor(costs, len(lengths), instances)
    best = min(one.cost for one in min_plus.best_partitions(tensor, stage_counts))
    found = price_search.best_partitions(costs, len(lengths), instances, stage_counts)
    return 100 * (min(one.cost for one in found) / best - 1)


@cache
def _lengths(trace: str) -> tuple[list[float], list[float]]:
    requests = read_trace(trace)
    prompts = [float(request.prompt_tokens) for request in requests]
    outputs = [float(request.output_tokens) for request in requests]
    return prompts, [sum(pair) for pair in zip(prompts, outputs, strict=True)]


def _checked(traffic: Traffic | TrafficProblem) -> Traffic:
    if isinstance(traffic, TrafficProblem):
        raise RuntimeError(f"the trace makes no traffic to plan for: {traffic.message}")
    return traffic
