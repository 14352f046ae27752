"""How the requests of a pool are put into batches."""

from collections.abc import Sequence

import numpy as np

from cascade_simulator.static_batching.batch import Batch, Task
from cascade_simulator.static_batching.estimator import MemoryEstimator, TimeEstimator


def fixed(tasks: Sequence[Task], size: int, time: TimeEstimator, steps: int) -> list[Batch]:
    """Batches of `size` in the given order; the last may be smaller."""
    return [
        _estimated(tasks[first : first + size], time, steps) for first in range(0, len(tasks), size)
    ]


def adaptive(
    tasks: Sequence[Task], time: TimeEstimator, memory: MemoryEstimator, steps: int
) -> list[Batch]:
    """The split of `tasks`, ascending by length, into batches with the least total estimate.

    D[i] = min over j < i of D[j] + T(i - j, length of the i-th, steps), with batches that fit the
    memory. The estimate is linear in the batch size: T = base + (i - j) marginal. O(n N) for n
    tasks and batches of at most N.
    """
    total = np.zeros(len(tasks) + 1)
    starts = [0] * (len(tasks) + 1)
    for end, task in enumerate(tasks, start=1):
        base = time.serve_ms(0, task.length, steps)
        marginal = time.serve_ms(1, task.length, steps) - base
        first = max(0, end - memory.largest_batch(task.length, steps))
        costs = total[first:end] + marginal * np.arange(end - first, 0, -1)
        best = int(costs.argmin())
        total[end] = base + costs[best]
        starts[end] = first + best
    batches = []
    end = len(tasks)
    while end:
        batches.append(_estimated(tasks[starts[end] : end], time, steps))
        end = starts[end]
    return batches[::-1]


def _estimated(tasks: Sequence[Task], time: TimeEstimator, steps: int) -> Batch:
    longest = max(task.length for task in tasks)
    return Batch(tuple(tasks), time.serve_ms(len(tasks), longest, steps))
