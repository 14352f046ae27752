"""How a pool becomes batches."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_simulator.static_batching.batch import Batch, Task, padding
from cascade_simulator.static_batching.batching import adaptive, fixed
from cascade_simulator.static_batching.engine import DEEPSPEED
from cascade_simulator.static_batching.estimator import (
    MemoryEstimator,
    TimeEstimator,
    profiled,
)

Tasks = Callable[[Sequence[int]], list[Task]]
LENGTHS = st.lists(st.integers(1, 2000), min_size=1, max_size=8).map(sorted)
FACTOR = st.floats(0, 2)
FORM = st.tuples(FACTOR, FACTOR, FACTOR, FACTOR)
STEPS = 64
TIME = profiled(DEEPSPEED)
AMPLE = MemoryEstimator(10**9)


def _lengths(batches: Sequence[Batch]) -> list[list[int]]:
    return [[task.length for task in batch.tasks] for batch in batches]


def _least_total(lengths: Sequence[int], time: TimeEstimator, memory: MemoryEstimator) -> float:
    """Brute force: each split of the sorted pool is a set of places to cut."""
    size = len(lengths)
    totals = []
    for cuts in range(2 ** (size - 1)):
        ends = [place + 1 for place in range(size - 1) if cuts >> place & 1] + [size]
        pieces = [lengths[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if all(len(piece) <= memory.largest_batch(piece[-1], STEPS) for piece in pieces):
            totals.append(sum(time.serve_ms(len(piece), piece[-1], STEPS) for piece in pieces))
    return min(totals)


@given(LENGTHS, FORM, FORM, st.integers(1, 20_000))
def test_no_split_of_the_sorted_pool_is_cheaper(
    lengths: list[int],
    prefill: tuple[float, float, float, float],
    decode: tuple[float, float, float, float],
    capacity: int,
) -> None:
    time, memory = TimeEstimator(prefill, decode), MemoryEstimator(capacity)
    pool = [Task(id, length, 1) for id, length in enumerate(lengths)]
    batches = adaptive(pool, time, memory, STEPS)
    assert [task for batch in batches for task in batch.tasks] == pool
    assert all(len(batch) <= memory.largest_batch(batch.length, STEPS) for batch in batches)
    found = sum(batch.estimate_ms for batch in batches)
    assert found == pytest.approx(_least_total(lengths, time, memory))


def test_a_few_long_ones_do_not_pad_many_short_ones(tasks: Tasks) -> None:
    batches = adaptive(tasks([20] * 30 + [2000] * 2), TIME, AMPLE, STEPS)
    assert _lengths(batches) == [[20] * 30, [2000] * 2]


def test_like_lengths_share_a_batch(tasks: Tasks) -> None:
    assert len(adaptive(tasks([400] * 20 + [420] * 20), TIME, AMPLE, STEPS)) == 1


def test_an_empty_pool_gives_no_batch(tasks: Tasks) -> None:
    assert adaptive(tasks([]), TIME, AMPLE, STEPS) == []
    assert fixed(tasks([]), 4, TIME, STEPS) == []


def test_fixed_batches_keep_the_order_and_estimate_the_longest(tasks: Tasks) -> None:
    batches = fixed(tasks([5, 900, 7, 3, 2]), 2, TIME, STEPS)
    assert _lengths(batches) == [[5, 900], [7, 3], [2]]
    assert batches[0].estimate_ms == TIME.serve_ms(2, 900, STEPS)


def test_padding_counts_what_the_shorter_prompts_lack(tasks: Tasks) -> None:
    assert padding(tasks([5, 9, 7])) == 4 + 2


def test_a_batch_ends_with_its_longest_answer_or_at_the_limit() -> None:
    batch = Batch((Task(0, 10, 3), Task(1, 10, 50)))
    assert batch.steps(limit=128) == 50
    assert batch.steps(limit=32) == 32
