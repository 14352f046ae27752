"""Which instance gets which batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_simulator.static_batching.batch import Batch, Task
from cascade_simulator.static_batching.offloading import max_min, round_robin

MS = st.floats(0, 1e6)


def _batches(estimates: list[float]) -> list[Batch]:
    return [Batch((Task(id, 1, 1),), estimate) for id, estimate in enumerate(estimates)]


@pytest.mark.parametrize(
    ("estimates", "loads", "expected"),
    [
        pytest.param([3, 5], [0, 0], [(5, 0), (3, 1)], id="the longest goes first"),
        pytest.param([4], [9, 2, 7], [(4, 1)], id="the least loaded instance gets it"),
        pytest.param(
            [5, 4, 3, 3, 3],
            [0, 0],
            [(5, 0), (4, 1), (3, 1), (3, 0), (3, 1)],
            id="what was assigned before counts as load",
        ),
        pytest.param([1, 1, 1], [0, 5], [(1, 0)] * 3, id="an instance with a lead gets several"),
    ],
)
def test_the_longest_batch_goes_to_the_least_outstanding_work(
    estimates: list[float], loads: list[float], expected: list[tuple[float, int]]
) -> None:
    assignment = max_min(_batches(estimates), loads)
    assert [(batch.estimate_ms, target) for batch, target in assignment] == expected


@given(st.lists(MS, min_size=1, max_size=12), st.lists(MS, min_size=1, max_size=4))
def test_each_step_is_greedy_and_no_batch_is_lost(
    estimates: list[float], loads: list[float]
) -> None:
    assignment = max_min(_batches(estimates), loads)
    assert sorted(batch.tasks[0].id for batch, _ in assignment) == list(range(len(estimates)))
    outstanding = list(loads)
    last = float("inf")
    for batch, target in assignment:
        assert batch.estimate_ms <= last
        assert outstanding[target] == min(outstanding)
        outstanding[target] += batch.estimate_ms
        last = batch.estimate_ms


def test_round_robin_goes_on_where_it_stopped() -> None:
    assignment = round_robin(_batches([1, 9, 1, 1]), instances=3, first=2)
    assert [target for _, target in assignment] == [2, 0, 1, 2]
