"""The fast loop: boundaries follow the traffic in small steps, and noise does not move them."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner.arrays import Array
from cascade_planner.hysteresis import Verdict
from cascade_planner.objective import Crossing, Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.pricing import Pricing
from cascade_planner.refine import MAX_FACTOR, MIN_GAIN_PERCENT, RefineReason, refine
from cascade_planner.traffic import Traffic
from cascade_policy.grid import length_grid
from cascade_policy.profiles import profile
from tests.planner.conftest import TrafficAt

ENGINE = profile("h100-8b")
MAX_LENGTH = 16384
COPY = PlanOptions(crossing=Crossing(copy_bytes_per_ms=25e6, fixed_ms=5))
RATE = 100.0
COUNTS = (2, 4, 2)


def requests(count: int, growth: float = 1.0, seed: int = 0) -> tuple[Array, Array]:
    """Chat: log-normal prompts (median 1000 times `growth`) and outputs (mean near 200)."""
    generator = np.random.default_rng(seed)
    prompts = np.round(1000 * growth * np.exp(0.8 * generator.standard_normal(count)))
    outputs = np.round(150 * np.exp(0.8 * generator.standard_normal(count)))
    return np.clip(prompts, 1, 12000), np.clip(outputs, 1, 2000)


def window(count: int, growth: float = 1.0, seed: int = 0, rate: float = RATE) -> Traffic:
    prompts, outputs = requests(count, growth, seed)
    found = Traffic.from_lengths(prompts, prompts + outputs, count / rate, MAX_LENGTH)
    assert isinstance(found, Traffic)
    return found


def settled(traffic: Traffic, current: Partition) -> tuple[Partition, int]:
    """Where the boundaries come to rest under one traffic, and after how many steps."""
    for step in range(50):
        found = refine(current, traffic, ENGINE, options=COPY)
        if found.verdict is Verdict.KEEP:
            return current, step
        current = found.partition
    raise AssertionError(f"boundaries never rest: {current}")


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    ends = draw(st.lists(st.integers(1, MAX_LENGTH - 1), min_size=1, max_size=4, unique=True))
    counts = tuple(draw(st.integers(1, 4)) for _ in range(len(ends) + 1))
    return Partition((*sorted(ends), MAX_LENGTH), counts)


traffics = st.builds(
    window,
    st.sampled_from([100, 1000]),
    st.sampled_from([0.2, 1.0, 4.0]),
    st.integers(0, 5),
    st.sampled_from([1.0, 50.0, 1000.0]),
)


@settings(deadline=None)
@given(traffics, partitions())
def test_a_step_keeps_counts_and_limits_and_never_costs_more(
    traffic: Traffic, current: Partition
) -> None:
    found = refine(current, traffic, ENGINE, options=COPY)
    pricing = Pricing(traffic, ENGINE, Objective(), COPY.crossing)
    assert found == refine(current, traffic, ENGINE, options=COPY)
    assert found.message
    assert found.partition.instances == current.instances
    assert found.partition.max_length == MAX_LENGTH
    for old, new in zip(current.ends, found.partition.ends, strict=True):
        assert math.floor(old / MAX_FACTOR) <= new <= math.ceil(old * MAX_FACTOR)
    if found.verdict is Verdict.KEEP:
        assert found.partition == current
    else:
        saved = 100 * (1 - pricing.cost(found.partition) / pricing.cost(current))
        assert saved == pytest.approx(found.gain_percent)
        assert saved >= MIN_GAIN_PERCENT


@settings(deadline=None, max_examples=30)
@given(traffics, partitions())
def test_a_step_is_the_best_of_all_within_reach(traffic: Traffic, current: Partition) -> None:
    grid = length_grid(MAX_LENGTH)[:-1]
    reach = [
        [end, *(g for g in grid if math.floor(end / 2**0.5) <= g <= math.ceil(end * 2**0.5))]
        for end in current.ends[:-1]
    ]
    pricing = Pricing(traffic, ENGINE, Objective(), COPY.crossing)
    least = min(
        pricing.cost(Partition((*ends, MAX_LENGTH), current.instances))
        for ends in itertools.product(*reach)
        if all(low < high for low, high in itertools.pairwise(ends))
    )
    found = refine(current, traffic, ENGINE, options=COPY)
    best = pricing.cost(current) * (1 - found.gain_percent / 100)
    assert best == pytest.approx(least, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(traffics, partitions())
def test_boundaries_come_to_rest_under_traffic_that_stays(
    traffic: Traffic, current: Partition
) -> None:
    resting, _ = settled(traffic, current)
    assert refine(resting, traffic, ENGINE, options=COPY).verdict is Verdict.KEEP


def test_an_unchanged_traffic_hardly_ever_moves_a_boundary() -> None:
    plan = solve(window(50_000), ENGINE, 8, options=COPY).partition
    assert len(plan.ends) > 1
    moved = sum(
        refine(plan, window(2000, seed=seed), ENGINE, options=COPY).verdict is Verdict.APPLY
        for seed in range(1, 41)
    )
    assert moved <= 2


@pytest.mark.parametrize(
    ("growth", "steps"),
    [
        pytest.param(1.5, 2, id="prompts half as long again are followed in two steps"),
        pytest.param(3.0, 4, id="prompts three times as long in four"),
        pytest.param(0.5, 3, id="prompts half as long in three"),
    ],
)
def test_a_drift_is_followed_within_a_few_steps(growth: float, steps: int) -> None:
    rate = RATE / max(growth, 1.0)
    plan, _ = settled(window(50_000), Partition((724, 2048, MAX_LENGTH), COUNTS))
    drifted = window(50_000, growth, rate=rate)
    pricing = Pricing(drifted, ENGINE, Objective(), COPY.crossing)
    grid = length_grid(MAX_LENGTH)[8:-1:2]
    best = min(
        pricing.cost(Partition((low, high, MAX_LENGTH), COUNTS))
        for low, high in itertools.combinations(grid, 2)
    )
    assert pricing.cost(plan) > 1.05 * best
    followed = plan
    for seed in range(steps):
        followed = refine(
            followed, window(5000, growth, seed, rate), ENGINE, options=COPY
        ).partition
    assert pricing.cost(followed) < 1.05 * best


def test_loads_are_not_made_equal() -> None:
    traffic = window(50_000)
    resting, _ = settled(traffic, Partition((724, 2048, MAX_LENGTH), COUNTS))
    _, state = Pricing(traffic, ENGINE, Objective(), COPY.crossing).forecast(resting)
    assert state.load.max() - state.load.min() > 0.05


@pytest.mark.parametrize(
    ("current", "options", "reason"),
    [
        pytest.param(
            Partition((MAX_LENGTH,), (8,)), COPY, RefineReason.ONE_STAGE, id="there is one stage"
        ),
        pytest.param(
            Partition((100, MAX_LENGTH), (4, 4)),
            PlanOptions(boundaries=(100,)),
            RefineReason.BOUNDARIES_FIXED,
            id="they are set by hand",
        ),
        pytest.param(
            Partition((100, 8192), (4, 4)),
            COPY,
            RefineReason.MAX_LENGTH_CHANGED,
            id="the model's maximum has changed",
        ),
        pytest.param(
            Partition((15000, MAX_LENGTH), (4, 4)),
            PlanOptions(),
            RefineReason.SETTLED,
            id="nothing is near them",
        ),
    ],
)
def test_boundaries_stay_because(
    current: Partition, options: PlanOptions, reason: RefineReason
) -> None:
    found = refine(current, window(1000, 0.2, rate=1.0), ENGINE, options=options)
    assert (found.verdict, found.reason) == (Verdict.KEEP, reason), found.message
    assert found.partition == current
    assert found.message


def test_a_gain_that_noise_can_feign_moves_nothing(chat_at: TrafficAt) -> None:
    """The same distribution is believed from many requests and not from few."""
    current = Partition((724, MAX_LENGTH), (2, 6))
    many = chat_at(100, MAX_LENGTH)
    few = replace(many, window_seconds=150 / many.requests_per_second)
    believed = refine(current, many, ENGINE, options=COPY)
    doubted = refine(current, few, ENGINE, options=COPY)
    assert believed.gain_percent == doubted.gain_percent
    assert believed.reason is RefineReason.GAIN_ENOUGH
    assert doubted.reason is RefineReason.GAIN_TOO_SMALL
