"""SLS: static batches until the longest is done."""

from collections.abc import Callable, Sequence

import pytest

from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.sequence_level import simulate_sequences
from cascade_simulator.workload import Workload

Rows = Callable[[Sequence[tuple[float, int, int]]], Workload]


def test_a_short_answer_returns_with_the_longest_of_its_batch(
    engine: BatchEngine, workload: Rows
) -> None:
    requests = workload([(0, 50, 2), (0, 100, 10)])
    outcome = simulate_sequences(requests, engine, 1, batch_size=2, output_limit=1024)
    expected = 2 * 100 + sum(10 + 2 * 0.01 * length for length in range(101, 111))
    assert outcome.end_ms == pytest.approx([expected, expected])
    assert outcome.counters.invalid == 8
    assert outcome.counters.pad == 50
    assert outcome.counters.prefilled == 200
    assert outcome.early_return_share == 1.0


def test_an_idle_instance_takes_what_waits_and_does_not_wait_for_more(
    engine: BatchEngine, workload: Rows
) -> None:
    requests = workload([(0, 10, 1), (1, 10, 1), (2, 10, 1), (3, 10, 1)])
    outcome = simulate_sequences(requests, engine, 1, batch_size=2, output_limit=1024)
    assert outcome.counters.batches == 3
    assert outcome.end_ms[0] < outcome.end_ms[1] == outcome.end_ms[2] < outcome.end_ms[3]


def test_instances_get_requests_in_turn(engine: BatchEngine, workload: Rows) -> None:
    requests = workload([(0, 10, 1), (0, 10, 100), (0, 10, 1), (0, 10, 1)])
    outcome = simulate_sequences(requests, engine, 2, batch_size=2, output_limit=1024)
    assert outcome.end_ms[0] == outcome.end_ms[2] < outcome.end_ms[1] == outcome.end_ms[3]
    assert outcome.completion_spread_ms > 0


def test_an_instance_without_requests_stays_idle(engine: BatchEngine, workload: Rows) -> None:
    outcome = simulate_sequences(workload([(5, 10, 1)]), engine, 2, 4, output_limit=1024)
    assert outcome.instance_end_ms[1] == 0
