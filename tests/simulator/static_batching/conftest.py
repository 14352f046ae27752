"""An engine whose times are easy to compute by hand."""

from collections.abc import Callable, Sequence

import pytest

from cascade_simulator.static_batching.batch import Task
from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.workload import Request, Workload


@pytest.fixture
def engine() -> BatchEngine:
    """A step takes 10 ms, a KV token 0.01 ms, a prompt token 1 ms beyond the first ten."""
    return BatchEngine(
        name="by hand",
        floor_ms=10.0,
        gemm_ms_per_token=1.0,
        attention_ms_per_token_squared=0.0,
        kv_ms_per_token=0.01,
        kv_capacity_tokens=10_000,
    )


@pytest.fixture
def workload() -> Callable[[Sequence[tuple[float, int, int]]], Workload]:
    """From rows of (arrival ms, prompt, output)."""
    return lambda rows: Workload("by hand", tuple(Request(*row) for row in rows))


@pytest.fixture
def tasks() -> Callable[[Sequence[int]], list[Task]]:
    """Tasks of given lengths."""
    return lambda lengths: [Task(id, length, 1) for id, length in enumerate(lengths)]
