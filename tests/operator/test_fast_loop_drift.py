"""An hour of readings, a minute apart: ranges follow traffic that drifts, and else stay."""

from dataclasses import replace

import numpy as np
import pytest

from cascade_operator.decide import decide
from cascade_operator.decisions import Decision
from cascade_operator.plans import PlanRecord, stages_of
from cascade_operator.reasons import Reason
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import solve
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from tests.operator.builders import NOW, service
from tests.operator.chat import RATE, chat
from tests.operator.test_decide import MAX_LENGTH, ONE_STAGE, SPEC

HOUR = 60
WINDOW_MINUTES = SPEC.planning.window_seconds / 60
COUNTS_STAY = service(planning={"minGainPercent": 100})
"""What the fast loop does by itself."""


def plan_for(traffic: Traffic) -> PlanRecord:
    partition = solve(traffic, SPEC.planning.engine_model, SPEC.instances).partition
    return replace(ONE_STAGE, id=partition.id, stages=stages_of(partition))


def reading(minute: int, growth: float) -> Traffic:
    """The window before a minute, as chance has it."""
    return chat(int(RATE * SPEC.planning.window_seconds / growth), growth, seed=minute)


def growth_at(minute: int) -> float:
    """Prompts become twice as long within half an hour and stay so; the mean of a window."""
    minutes = np.linspace(minute - WINDOW_MINUTES, minute, 20)
    return float(np.mean(2 ** np.clip(minutes / 30, 0, 1)))


def cost(partition: Partition, traffic: Traffic) -> float:
    return Pricing(traffic, SPEC.planning.engine_model, Objective()).cost(partition)


def best_of(counts: tuple[int, ...], traffic: Traffic) -> float:
    """The least cost of any ranges for these counts, on the grid where plans cut."""
    bounds = traffic.bounds[9:-1:2].astype(int)
    pairs = [(low, high) for low in bounds for high in bounds if low < high]
    return min(cost(Partition((*pair, MAX_LENGTH), counts), traffic) for pair in pairs)


def hour(plan: PlanRecord, growths: list[float], *, placed: bool = True) -> list[Decision]:
    """What is decided in each minute."""
    decisions = []
    for minute, growth in enumerate(growths, start=1):
        traffic = reading(minute, growth)
        decision = decide(plan, traffic, COUNTS_STAY, NOW + 60 * minute, placed=placed)
        decisions.append(decision)
        plan = decision.plan
    return decisions


def steps(decisions: list[Decision]) -> int:
    reasons = [one.record.reason for one in decisions if one.record is not None]
    return reasons.count(Reason.TRAFFIC_SHIFTED)


def test_ranges_follow_traffic_that_drifts_while_counts_stay() -> None:
    after = chat(100_000, 2.0)
    first = plan_for(chat(100_000))
    drift = [growth_at(minute) for minute in range(1, HOUR + 1)]
    followed, stayed = hour(first, drift), hour(first, drift, placed=False)
    best = best_of(first.counts, after)
    assert {one.plan.counts for one in followed} == {first.counts}
    assert {one.plan.moved for one in followed} == {first.moved}
    assert cost(first.partition, after) > 2 * best
    assert stayed[-1].plan.counts != first.counts, "without steps, overload moves instances"
    assert cost(followed[-1].plan.partition, after) < 1.02 * best
    assert 3 <= steps(followed) <= 8
    assert steps(followed[45:]) <= 1, "they rest when the traffic does"


@pytest.mark.parametrize("requests", [500, 2000, 6600])
def test_under_steady_traffic_ranges_hardly_ever_move(requests: int) -> None:
    steady = chat(100_000)
    plan = first = plan_for(steady)
    decisions = []
    for minute in range(1, HOUR + 1):
        traffic = chat(requests, seed=minute)
        decision = decide(plan, traffic, COUNTS_STAY, NOW + 60 * minute, placed=True)
        decisions.append(decision)
        plan = decision.plan
    # No window has a request of another one; those of a service overlap by nine tenths.
    assert steps(decisions) <= 3
    assert cost(plan.partition, steady) < 1.05 * cost(first.partition, steady)
