"""How much the worth of windows differs while the plan stays, from a simulated cluster.

Its traffic drifts in rate and mix as the trace does, minute by minute.
"""

from functools import cache
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import pytest

from cascade_cli.scenario import Pace, Scenario, make_workload, run_scenario
from cascade_cli.trace_source import BadLines
from cascade_cli.traces import opened, requests
from cascade_operator.outcome_review import NOISE, WORSE, Worth, limit, worth_of
from cascade_operator.plans import Trial, first_plan
from cascade_operator.traffic import Latency
from cascade_planner.traffic import Traffic
from tests.operator.builders import NOW, service

TRACE = Path(__file__).parents[2] / "e2e" / "traces" / "azure_2023_conversation.csv.xz"
MAX_LENGTH = 131_072
REQUESTS = 12_000
BEGINNING = 1_500
"""Requests until the simulated queues are as long as they stay."""
SPEC = service(model={"name": "m", "maxLength": MAX_LENGTH}, gpuCount=16, engine={"type": "vllm"})
FORMER = first_plan(SPEC, NOW)


@cache
def simulated(load: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Prompt, final length, arrival and end (ms) of requests in the order in which they ended."""
    with opened(str(TRACE)) as raw:
        rows = list(requests(raw, TRACE.name, BadLines(lambda _: None)))
    scenario = Scenario(
        policy="least-work", load=load, pace=Pace.DRIFTING, requests=REQUESTS, instances=16
    )
    outcome = run_scenario(scenario, make_workload(scenario, rows))
    order = np.argsort(outcome.end_ms)[BEGINNING:-BEGINNING]
    final = outcome.prompt + outcome.output
    return (
        outcome.prompt[order], final[order], outcome.arrival_ms[order], outcome.end_ms[order]
    )  # fmt: skip


def worths(load: float, size: int) -> list[Worth]:
    """Of windows of `size` requests, one after the other, all under one and the same plan."""
    prompt, final, arrival, end = simulated(load)
    found = []
    for first in range(0, len(end) - size + 1, size):
        cut = slice(first, first + size)
        seconds = (end[cut][-1] - end[cut][0]) / 1000
        traffic = Traffic.from_lengths(prompt[cut], final[cut], seconds, MAX_LENGTH)
        assert isinstance(traffic, Traffic)
        mean = float((end[cut] - arrival[cut]).mean())
        worth = worth_of(traffic, Latency(mean, size), SPEC, FORMER.partition)
        assert worth is not None
        found.append(worth)
    return found


def trial(before: Worth) -> Trial:
    return Trial(FORMER, before.ratio, before.variance, SPEC.generation, NOW)


@pytest.mark.parametrize("load", [0.5, 0.7])
@pytest.mark.parametrize("size", [500, 1000])
def test_windows_of_one_plan_seldom_seem_worse_than_each_other(load: float, size: int) -> None:
    found = worths(load, size)
    pairs = list(permutations(found, 2))
    worse = [after.ratio > before.ratio * limit(trial(before), after) for before, after in pairs]
    assert sum(worse) <= 0.05 * len(pairs), "one such window in twenty; it takes two in a row"


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_the_noise_is_not_more_than_it_is_taken_for(load: float) -> None:
    found = worths(load, 500)
    ratios = np.array([one.ratio for one in found])
    taken_for = NOISE / (1 - np.mean([one.load for one in found])) / np.sqrt(500)
    assert ratios.std() / ratios.mean() < 1.25 * taken_for


def test_without_the_noise_in_the_limit_chance_would_lead_back_now_and_then() -> None:
    found = [one.ratio for one in worths(0.7, 500)]
    triples = [
        (before, *after) for before in found for after in pairwise(found) if before not in after
    ]
    back = [min(one, two) > WORSE * before for before, one, two in triples]
    assert sum(back) > 0.05 * len(triples)


def test_the_worth_of_a_plan_is_the_same_under_another_load() -> None:
    quiet, busy = (np.mean([one.ratio for one in worths(load, 1000)]) for load in (0.5, 0.7))
    assert busy == pytest.approx(quiet, rel=0.05)
