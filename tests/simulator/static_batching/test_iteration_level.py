"""ILS: continuous batches."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.iteration_level import HEADROOM_TOKENS, simulate_iterations
from cascade_simulator.workload import Workload

Rows = Callable[[Sequence[tuple[float, int, int]]], Workload]


def test_a_request_alone_takes_its_prefill_and_its_steps(
    engine: BatchEngine, workload: Rows
) -> None:
    outcome = simulate_iterations(workload([(7, 50, 3)]), engine, 1, 4, kv_tokens=1000)
    # The first step computes the prompt and one more token.
    expected = 7 + 51 + 10 + 10 + 0.01 * (51 + 52 + 53)
    assert outcome.end_ms == pytest.approx([expected])


def test_a_short_answer_leaves_and_the_next_request_joins_at_once(
    engine: BatchEngine, workload: Rows
) -> None:
    requests = workload([(0, 10, 2), (0, 10, 20), (0, 10, 2)])
    outcome = simulate_iterations(requests, engine, 1, max_sequences=2, kv_tokens=1000)
    first, long, waited = outcome.end_ms
    assert first < waited < long
    assert outcome.counters.invalid == outcome.counters.pad == 0
    assert outcome.counters.batches == 20


def test_no_more_sequences_run_than_allowed(engine: BatchEngine, workload: Rows) -> None:
    outcome = simulate_iterations(workload([(0, 10, 5)] * 9), engine, 1, 3, kv_tokens=1000)
    assert outcome.batch_size == 3


def test_when_the_memory_is_full_the_newest_is_evicted_and_computed_again(
    engine: BatchEngine, workload: Rows
) -> None:
    requests = workload([(0, 100, 200), (0, 100, 200)])
    kv_tokens = 200 + 2 * HEADROOM_TOKENS
    outcome = simulate_iterations(requests, engine, 1, max_sequences=4, kv_tokens=kv_tokens)
    assert outcome.counters.evictions == 1
    assert outcome.emitted.tolist() == [200, 200]
    assert outcome.turns.tolist() == [1, 2]
    assert outcome.counters.prefilled == 100 + 100 + (100 + HEADROOM_TOKENS)
    assert outcome.end_ms[0] < outcome.end_ms[1]


def test_memory_is_never_exceeded_by_those_who_run_together(
    engine: BatchEngine, workload: Rows
) -> None:
    requests = workload([(index * 20, 40 + index, 60) for index in range(60)])
    outcome = simulate_iterations(requests, engine, 2, max_sequences=64, kv_tokens=900)
    assert outcome.counters.evictions > 0
    assert outcome.counters.peak_kv_tokens <= 900
    assert outcome.emitted.tolist() == [60] * 60


def test_the_prefill_of_those_who_join_shares_the_step(engine: BatchEngine, workload: Rows) -> None:
    free = replace(engine, kv_ms_per_token=0.0)
    outcome = simulate_iterations(workload([(0, 5, 1), (0, 4, 1)]), free, 1, 2, kv_tokens=1000)
    assert outcome.end_ms == pytest.approx([5 + 4 + 2] * 2)
