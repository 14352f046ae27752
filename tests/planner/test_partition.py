"""The dynamic programme against an exhaustive search, and the partition record."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_planner.histogram import Array
from cascade_planner.partition import Partition, best_partitions


@st.composite
def price_tensors(draw: st.DrawFn) -> Array:
    """Arbitrary stage prices: neither monotone nor convex, with ties."""
    cuts = draw(st.integers(1, 5))
    instances = draw(st.integers(1, 6))
    values = draw(
        st.lists(
            st.integers(0, 20),
            min_size=(cuts + 1) ** 2 * instances,
            max_size=(cuts + 1) ** 2 * instances,
        )
    )
    prices = np.asarray(values, dtype=np.float64).reshape(cuts + 1, cuts + 1, instances)
    first, last = np.tril_indices(cuts + 1)
    prices[first, last] = np.inf
    return prices


def cheapest_by_trying_all(prices: Array, stages: int) -> float:
    cuts, instances = prices.shape[0] - 1, prices.shape[2]
    best = np.inf
    for inner in itertools.combinations(range(1, cuts), stages - 1):
        ends = (*inner, cuts)
        for splits in itertools.combinations(range(1, instances), stages - 1):
            counts = np.diff((0, *splits, instances))
            best = min(best, total(prices, ends, counts.tolist()))
    return best


def total(prices: Array, ends: tuple[int, ...], counts: list[int]) -> float:
    starts = (0, *ends[:-1])
    triples = zip(starts, ends, counts, strict=True)
    return float(sum(prices[start, end, count - 1] for start, end, count in triples))


@given(price_tensors())
def test_each_stage_count_gets_what_trying_all_partitions_finds(prices: Array) -> None:
    cuts, instances = prices.shape[0] - 1, prices.shape[2]
    solutions = best_partitions(prices, range(1, 9))
    assert [len(one.cuts) for one in solutions] == list(range(1, min(cuts, instances) + 1))
    for solution in solutions:
        assert solution.cost == cheapest_by_trying_all(prices, len(solution.cuts))


@given(price_tensors())
def test_a_solution_costs_what_it_says_and_uses_all_cuts_and_instances(prices: Array) -> None:
    for solution in best_partitions(prices, range(1, 9)):
        assert total(prices, solution.cuts, list(solution.instances)) == solution.cost
        assert sum(solution.instances) == prices.shape[2]
        assert solution.cuts[-1] == prices.shape[0] - 1
        assert list(solution.cuts) == sorted(set(solution.cuts))


def test_only_the_wanted_stage_counts_are_solved() -> None:
    prices = np.ones((4, 4, 5))
    assert [len(one.cuts) for one in best_partitions(prices, (1, 3))] == [1, 3]
    assert best_partitions(prices, (4,)) == ()


@pytest.mark.parametrize(
    ("before", "after", "moves"),
    [
        pytest.param(((64,), (4,)), ((64,), (4,)), 0, id="nothing moves to the same partition"),
        pytest.param(((8, 64), (2, 2)), ((16, 64), (2, 2)), 0, id="a boundary moves no instance"),
        pytest.param(((8, 64), (3, 1)), ((8, 64), (1, 3)), 2, id="instances move between stages"),
        pytest.param(((64,), (4,)), ((8, 64), (3, 1)), 1, id="a new stage is filled by moves"),
        pytest.param(((8, 64), (3, 1)), ((64,), (4,)), 1, id="a stage that goes is emptied"),
        pytest.param(((64,), (4,)), ((64,), (6,)), 2, id="an added instance counts"),
    ],
)
def test_moves(
    before: tuple[tuple[int, ...], tuple[int, ...]],
    after: tuple[tuple[int, ...], tuple[int, ...]],
    moves: int,
) -> None:
    assert Partition(*before).moves_to(Partition(*after)) == moves


def test_ids_are_stable_and_tell_boundaries_and_counts_apart() -> None:
    partition = Partition((1024, 16384), (5, 3))
    assert partition.id == Partition((1024, 16384), (5, 3)).id == "16346db333"
    assert partition.id != Partition((1024, 16384), (3, 5)).id
    assert partition.id != Partition((512, 16384), (5, 3)).id


@pytest.mark.parametrize(
    ("ends", "instances"),
    [
        pytest.param((), (), id="no stage"),
        pytest.param((8, 16), (1,), id="a stage without a count"),
        pytest.param((16, 8), (1, 1), id="descending ends"),
        pytest.param((8, 8), (1, 1), id="an empty range"),
        pytest.param((8, 16), (1, 0), id="a stage without an instance"),
    ],
)
def test_a_partition_refuses(ends: tuple[int, ...], instances: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="stage"):
        Partition(ends, instances)
