"""Plans: exact, valid for any traffic, and never worse than one stage or the present plan."""

import itertools
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner.arrays import Array
from cascade_planner.explain import explain
from cascade_planner.histogram import LengthHistogram
from cascade_planner.min_plus import best_partitions, cost_tensor
from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import (
    Plan,
    PlanOptions,
    candidate_ends,
    solve,
)
from cascade_planner.pricing import Pricing
from cascade_planner.solver import Solver
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel
from cascade_policy.grid import length_grid
from cascade_policy.profiles import profile
from tests.planner.conftest import TrafficAt

H100 = profile("h100-8b")
SIMULATED = profile("simulated")
MAX_LENGTH = 16384

engines = st.builds(
    replace,
    st.sampled_from([H100, SIMULATED]),
    heterogeneity=st.sampled_from([0.0, 0.5]),
    kv_capacity_tokens=st.sampled_from([5_000, 400_000]),
)
objectives = st.builds(
    Objective,
    ttft_target_ms=st.sampled_from([50.0, 2000.0]),
    tpot_target_ms=st.sampled_from([10.0, 100.0]),
    alpha=st.sampled_from([1.0, 5.0]),
    safety=st.sampled_from([1.0, 1.15]),
)
crossings = st.sampled_from([RECOMPUTE, Crossing(copy_bytes_per_ms=25e6, fixed_ms=5)])


@st.composite
def traffics(draw: st.DrawFn) -> Traffic:
    """Traffic of arbitrary histograms at any rate, from idle to hopelessly overloaded."""
    grid = length_grid(MAX_LENGTH)
    rate = draw(st.sampled_from([0.1, 1.0, 30.0, 3000.0]))
    masses = st.lists(st.integers(0, 5), min_size=len(grid), max_size=len(grid)).filter(any)
    starts, ends = draw(masses), draw(masses)
    prompts = [rate * part / sum(starts) for part in itertools.accumulate(starts)]
    finals = [rate * part / sum(ends) for part in itertools.accumulate(ends)]
    finals = [min(prompt, final) for prompt, final in zip(prompts, finals, strict=True)]
    finals[-1] = prompts[-1]
    traffic = Traffic.from_histograms(
        LengthHistogram.of(zip(grid, prompts, strict=True)),
        LengthHistogram.of(zip(grid, finals, strict=True)),
        MAX_LENGTH,
        min_requests=1,
    )
    assert isinstance(traffic, Traffic)
    return traffic


def numbers_in(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in numbers_in(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers_in(item)]
    return [float(value)] if isinstance(value, int | float) else []


def assert_valid(plan: Plan, instances: int, max_stages: int) -> None:
    """The plan covers every length once, uses every instance, and holds only finite numbers."""
    assert 1 <= len(plan.stages) <= max_stages
    assert sum(stage.instances for stage in plan.stages) == instances
    assert min(stage.instances for stage in plan.stages) >= 1
    assert plan.stages[0].min_length == 0
    assert plan.stages[-1].max_length == MAX_LENGTH
    for before, after in itertools.pairwise(plan.stages):
        assert after.min_length == before.max_length + 1
    assert all(math.isfinite(number) and number >= -1e-9 for number in numbers_in(asdict(plan)))


@settings(deadline=None)
@given(traffics(), engines, objectives, crossings, st.integers(1, 9), st.integers(1, 4))
def test_any_traffic_gives_a_valid_plan_that_is_no_worse_than_one_stage(
    traffic: Traffic,
    engine: EngineModel,
    objective: Objective,
    crossing: Crossing,
    instances: int,
    max_stages: int,
) -> None:
    options = PlanOptions(max_stages=max_stages, crossing=crossing)
    plan = solve(traffic, engine, instances, objective, options)
    assert_valid(plan, instances, max_stages)
    assert plan.cost <= plan.one_stage_cost
    assert plan == solve(traffic, engine, instances, objective, options)
    assert explain(plan)


@settings(deadline=None)
@given(traffics(), engines, objectives, crossings, st.integers(1, 8))
def test_more_instances_never_cost_more(
    traffic: Traffic,
    engine: EngineModel,
    objective: Objective,
    crossing: Crossing,
    instances: int,
) -> None:
    options = PlanOptions(crossing=crossing)
    fewer = solve(traffic, engine, instances, objective, options)
    more = solve(traffic, engine, instances + 1, objective, options)
    assert more.cost <= fewer.cost * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(traffics(), engines, objectives, crossings, st.integers(60, 3000))
def test_a_plan_for_many_instances_is_valid_and_says_how_good_it_is(
    traffic: Traffic,
    engine: EngineModel,
    objective: Objective,
    crossing: Crossing,
    instances: int,
) -> None:
    options = PlanOptions(max_stages=4, bucket_ratio=4, crossing=crossing)
    plan = solve(traffic, engine, instances, objective, options)
    assert_valid(plan, instances, 4)
    assert plan.cost <= plan.one_stage_cost
    assert 0 <= plan.gap_percent <= 100
    assert [len(one.partition.ends) for one in plan.best_by_stage_count] == [1, 2, 3, 4][
        : len(plan.best_by_stage_count)
    ]
    assert plan == solve(traffic, engine, instances, objective, options)
    more = solve(traffic, engine, instances + 1, objective, options)
    # What is proven of one plan holds for the other, too.
    assert more.cost * (1 - more.gap_percent / 100) <= plan.cost * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(traffics(), st.integers(100, 400), st.sampled_from([1, 2, 3]))
def test_the_search_for_many_instances_is_as_good_as_it_says(
    traffic: Traffic, instances: int, max_stages: int
) -> None:
    options = PlanOptions(max_stages=max_stages, bucket_ratio=8)
    plan = solve(traffic, SIMULATED, instances, options=options)
    pricing = Pricing(traffic, SIMULATED, Objective())
    lengths = candidate_ends(traffic, options)
    tensor = cost_tensor(pricing.stages_between(lengths), len(lengths), instances)
    exact = best_partitions(tensor, range(1, max_stages + 1))
    best = min(one.cost for one in exact)
    assert best * (1 - 1e-9) <= plan.cost
    assert plan.cost * (1 - plan.gap_percent / 100) <= best * (1 + 1e-9)


@settings(deadline=None, max_examples=30)
@given(traffics(), objectives, st.sampled_from([3, 8, 100]), st.sampled_from([0.125, 4.0]))
def test_worth_in_another_currency_buys_the_same_plan(
    traffic: Traffic, objective: Objective, instances: int, scale: float
) -> None:
    scaled = replace(objective, alpha=objective.alpha * scale, beta=objective.beta * scale)
    plan = solve(traffic, SIMULATED, instances, objective)
    other = solve(traffic, SIMULATED, instances, scaled)
    assert other.cost == pytest.approx(plan.cost * scale, rel=1e-6)
    assert other.gain_percent == pytest.approx(plan.gain_percent, abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(traffics(), st.integers(1, 8), st.data())
def test_a_plan_does_not_depend_on_how_its_histograms_are_cut(
    traffic: Traffic, instances: int, data: st.DataObject
) -> None:
    """Bounds in between, where lengths are as log-uniform as the planner takes them to be."""
    cuts = data.draw(st.lists(st.floats(2, MAX_LENGTH - 1), min_size=1, max_size=4))
    bounds = np.union1d(traffic.bounds[1:], cuts)

    def histogram(above: Array) -> LengthHistogram:
        at = np.interp(np.log(bounds), np.log(traffic.bounds), above[0] - above)
        return LengthHistogram.of(zip(bounds.tolist(), at.tolist(), strict=True))

    split = Traffic.from_histograms(
        histogram(traffic.prompts_above),
        histogram(traffic.finals_above),
        MAX_LENGTH,
        min_requests=1,
    )
    assert isinstance(split, Traffic)
    plan, other = solve(traffic, SIMULATED, instances), solve(split, SIMULATED, instances)
    assert other.cost == pytest.approx(plan.cost, rel=1e-6)


@pytest.mark.parametrize("instances", [6, 8, 300])
def test_the_present_plan_may_have_another_number_of_instances(
    chat_at: TrafficAt, instances: int
) -> None:
    present = Partition((1000, MAX_LENGTH), (5, 3))
    traffic = chat_at(1.0 * instances, MAX_LENGTH)
    plan = solve(traffic, SIMULATED, instances, current=present)
    assert_valid(plan, instances, 8)
    assert plan.cost <= solve(traffic, SIMULATED, instances).cost * (1 + 1e-9)


def test_a_present_plan_that_the_search_for_many_instances_misses_is_kept(
    chat_at: TrafficAt,
) -> None:
    """Where the safety margin just does not fit, single instances decide, and bundles miss them."""
    traffic = chat_at(1010, MAX_LENGTH)
    engine = replace(SIMULATED, heterogeneity=0.0, kv_capacity_tokens=100_000)
    present = Partition((2896, MAX_LENGTH), (435, 165))
    missed = solve(traffic, engine, 600)
    assert missed.solver is Solver.BUNDLES
    assert missed.gap_percent > 5
    kept = solve(traffic, engine, 600, current=present)
    assert kept.partition == present
    assert kept.cost < missed.cost
    assert kept.cost == Pricing(traffic, engine, Objective()).cost(present)
    assert kept.cost * (1 - kept.gap_percent / 100) == pytest.approx(
        missed.cost * (1 - missed.gap_percent / 100)
    )


@settings(deadline=None)
@given(traffics(), st.lists(st.integers(1, MAX_LENGTH - 1), max_size=3), st.data())
def test_a_plan_is_no_worse_than_any_present_one_with_as_many_instances(
    traffic: Traffic, boundaries: list[int], data: st.DataObject
) -> None:
    ends = (*sorted(set(boundaries)), MAX_LENGTH)
    counts = tuple(data.draw(st.integers(1, 4)) for _ in ends)
    present = Partition(ends, counts)
    plan = solve(traffic, SIMULATED, present.total, current=present)
    pricing = Pricing(traffic, SIMULATED, Objective())
    assert plan.cost <= pricing.cost(present) * (1 + 1e-6)
    assert plan.cost == pytest.approx(pricing.cost(plan.partition), rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(traffics(), st.integers(1, 5))
def test_a_plan_is_the_cheapest_of_all_partitions(traffic: Traffic, instances: int) -> None:
    options = PlanOptions(bucket_ratio=8, max_stages=3)
    plan = solve(traffic, SIMULATED, instances, options=options)
    pricing = Pricing(traffic, SIMULATED, Objective())
    inner = [bound for bound in length_grid(MAX_LENGTH)[::12] if bound < MAX_LENGTH]
    costs = [
        pricing.cost(Partition((*boundaries, MAX_LENGTH), counts))
        for stages in range(1, min(3, instances) + 1)
        for boundaries in itertools.combinations(inner, stages - 1)
        for counts in itertools.product(range(1, instances + 1), repeat=stages)
        if sum(counts) == instances
    ]
    assert plan.cost == pytest.approx(min(costs), rel=1e-6)


@settings(deadline=None)
@given(st.integers(1, MAX_LENGTH - 1), st.integers(1, 8))
def test_a_place_to_end_where_nothing_is_changes_nothing(cut: int, instances: int) -> None:
    prompts, finals = [100.0] * 200 + [6000.0] * 50, [200.0] * 200 + [6400.0] * 50
    traffic = Traffic.from_lengths(prompts, finals, 60, MAX_LENGTH)
    assert isinstance(traffic, Traffic)
    idle = not (76 < cut <= 215 or 5793 < cut <= 6889)
    present = Partition((cut, MAX_LENGTH), (1, 1))
    plain = solve(traffic, SIMULATED, instances)
    split = solve(traffic, SIMULATED, instances, current=present)
    if idle:
        assert split.cost == pytest.approx(plain.cost, rel=1e-9)
        assert [stage.instances for stage in split.stages] == [
            stage.instances for stage in plain.stages
        ]
    else:
        assert split.cost <= plain.cost * (1 + 1e-9)
