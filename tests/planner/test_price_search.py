"""The search by price against the exact one."""

import numpy as np
import pytest
from hypothesis import given, settings

from cascade_planner import min_plus, price_search
from cascade_planner.arrays import Array, Index
from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.partition import Solution
from cascade_planner.plan import PlanOptions, candidate_ends
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from cascade_policy.profiles import profile
from tests.planner.conftest import TrafficAt, rate_of_load
from tests.planner.stage_costs import falling_tensors, of_tensor

ENGINE = profile("h100-8b")
ROUNDING = 1e-9
STAGE_COUNTS = range(1, 9)


def search(tensor: Array) -> tuple[Solution, ...]:
    cuts, instances = tensor.shape[0] - 1, tensor.shape[2]
    return price_search.best_partitions(of_tensor(tensor), cuts, instances, STAGE_COUNTS)


def assert_partition(solution: Solution, tensor: Array) -> None:
    """It covers all cuts, uses all instances, and costs what it says."""
    assert list(solution.cuts) == sorted(set(solution.cuts))
    assert solution.cuts[-1] == tensor.shape[0] - 1
    assert sum(solution.instances) == tensor.shape[2]
    assert min(solution.instances) >= 1
    starts = (0, *solution.cuts[:-1])
    stages = zip(starts, solution.cuts, solution.instances, strict=True)
    total = sum(tensor[start, end, count - 1] for start, end, count in stages)
    assert solution.cost == pytest.approx(float(total))


@settings(deadline=None)
@given(falling_tensors(convex=True) | falling_tensors(convex=False))
def test_every_stage_count_gets_a_partition_and_a_bound_that_the_best_one_keeps(
    tensor: Array,
) -> None:
    exact = min_plus.best_partitions(tensor, STAGE_COUNTS)
    found = search(tensor)
    assert [len(one.cuts) for one in found] == [len(one.cuts) for one in exact]
    assert found[0].cost == pytest.approx(exact[0].cost)
    for one, best in zip(found, exact, strict=True):
        assert_partition(one, tensor)
        assert one.cost >= best.cost * (1 - ROUNDING)
        assert one.at_least <= best.cost * (1 + ROUNDING)


@settings(deadline=None)
@given(falling_tensors(convex=True))
def test_instances_are_given_out_at_least_cost_where_gains_fall(tensor: Array) -> None:
    """Whatever cuts are found: no other counts for them are cheaper."""
    for one in search(tensor):
        starts = (0, *one.cuts[:-1])
        rows = [tensor[start, end] for start, end in zip(starts, one.cuts, strict=True)]
        chain = np.full((len(rows) + 1, len(rows) + 1, tensor.shape[2]), np.inf)
        for i, row in enumerate(rows):
            chain[i, i + 1] = row
        [best] = min_plus.best_partitions(chain, [len(rows)])
        assert one.cost == pytest.approx(best.cost)


@settings(deadline=None)
@given(falling_tensors(convex=False))
def test_the_same_costs_give_the_same_partition(tensor: Array) -> None:
    assert search(tensor) == search(tensor.copy())


def test_few_costs_are_asked_for() -> None:
    asked = 0

    def costs(first: Index, last: Index, instances: Array) -> Array:
        nonlocal asked
        asked += instances.size
        work = (last - first) ** 1.5
        found: Array = work * (1 + work / instances)
        return found

    price_search.best_partitions(costs, 20, 4096, STAGE_COUNTS)
    assert asked < 0.2 * 210 * 4096


def test_costs_that_no_instance_lowers_are_no_trouble() -> None:
    tensor = np.ones((4, 4, 100))
    assert [one.cost for one in search(tensor)] == [1, 2, 3]
    assert [one.cost for one in search(0 * tensor)] == [0, 0, 0]


MEAN_TIME = Objective(alpha=1, safety=1, slo_weight=0)


@pytest.mark.parametrize("crossing", [RECOMPUTE, Crossing(copy_bytes_per_ms=25e6)])
@pytest.mark.parametrize("objective", [Objective(), MEAN_TIME], ids=["delays", "mean time"])
@pytest.mark.parametrize("load", [0.1, 0.3, 0.5, 0.7, 0.85])
@pytest.mark.parametrize("instances", [16, 100])
def test_real_traffic_that_fits_gets_the_best_partition_and_the_proof(
    azure_at: TrafficAt,
    mooncake_at: TrafficAt,
    crossing: Crossing,
    objective: Objective,
    load: float,
    instances: int,
) -> None:
    for at in (azure_at, mooncake_at):
        traffic = at(rate_of_load(at, ENGINE, instances, load / objective.safety), 131072)
        tensor = stage_costs(traffic, objective, crossing, instances)
        best = min(one.cost for one in min_plus.best_partitions(tensor, STAGE_COUNTS))
        found = search(tensor)
        assert min(one.cost for one in found) == pytest.approx(best, rel=ROUNDING)
        assert min(one.at_least for one in found) == pytest.approx(best, rel=1e-3)


def stage_costs(
    traffic: Traffic, objective: Objective, crossing: Crossing, instances: int
) -> Array:
    pricing = Pricing(traffic, ENGINE, objective, crossing)
    lengths = candidate_ends(traffic, PlanOptions())
    return min_plus.cost_tensor(pricing.stages_between(lengths), len(lengths), instances)
