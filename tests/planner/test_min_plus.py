"""The exact search against an exhaustive one."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cascade_planner.arrays import Array, Index
from cascade_planner.min_plus import best_partitions, cost_tensor, most_instances


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
        assert (
            solution.cost == solution.at_least == cheapest_by_trying_all(prices, len(solution.cuts))
        )


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


def test_the_tensor_holds_each_stage_once() -> None:
    def costs(first: Index, last: Index, instances: Array) -> Array:
        return 100.0 * first + 10 * last + instances

    tensor = cost_tensor(costs, 2, 3)
    assert tensor[0, 1].tolist() == [11, 12, 13]
    assert tensor[0, 2].tolist() == [21, 22, 23]
    assert tensor[1, 2].tolist() == [121, 122, 123]
    assert np.isinf(tensor[1, 1]).all()
    assert np.isinf(tensor[2, 0]).all()


def test_the_work_grows_with_the_square_of_cuts_and_instances() -> None:
    assert most_instances(20, 8, 1e7) == 79
    assert most_instances(20, 8, 4e7) == 158
    assert most_instances(40, 8, 4e7) == 79
    assert most_instances(3, 50, 1) == 1
