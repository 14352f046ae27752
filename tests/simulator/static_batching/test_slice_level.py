"""SO ... SCLS: slices from one pool."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.estimator import MemoryEstimator, TimeEstimator
from cascade_simulator.static_batching.slice_level import (
    Batching,
    Offloading,
    SliceScheduler,
    simulate_slices,
)
from cascade_simulator.workload import Workload

Rows = Callable[[Sequence[tuple[float, int, int]]], Workload]

SCHEDULER = SliceScheduler(
    name="by hand",
    time=TimeEstimator(prefill=(1.0, 0.0, 0.0, 0.0), decode=(0.01, 0.0, 0.0, 10.0)),
    memory=MemoryEstimator(10_000),
    fixed_batch=2,
    batching=Batching.ADAPTIVE,
    offloading=Offloading.MAX_MIN,
    slice_tokens=10,
    round_ms=1000.0,
    busy_share=0.5,
)


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        pytest.param([0.0, 9000.0], 1000.0, id="an idle instance: the least time between rounds"),
        pytest.param([8000.0, 6000.0], 3000.0, id="all busy: half of the least outstanding work"),
        pytest.param([1900.0, 9000.0], 1000.0, id="little work: never more often than Gamma"),
    ],
)
def test_the_next_round_waits_for_the_least_loaded_instance(
    loads: list[float], expected: float
) -> None:
    assert SCHEDULER.interval_ms(loads) == expected
    assert replace(SCHEDULER, busy_share=0.0).interval_ms(loads) == 1000.0


def test_an_unfinished_request_comes_back_and_is_prefilled_with_what_it_has_emitted(
    engine: BatchEngine, workload: Rows
) -> None:
    outcome = simulate_slices(workload([(0, 50, 14)]), engine, 1, SCHEDULER)
    first = 50 + sum(10 + 0.01 * length for length in range(51, 61))
    assert first < 1000
    second = 60 + sum(10 + 0.01 * length for length in range(61, 65))
    assert outcome.end_ms == pytest.approx([1000 + second])
    assert outcome.turns.tolist() == [2]
    assert outcome.counters.prefilled == 50 + 60
    assert outcome.counters.early_returns == 1


def test_a_finished_member_of_a_batch_returns_after_the_slice_and_not_after_the_longest(
    engine: BatchEngine, workload: Rows
) -> None:
    outcome = simulate_slices(workload([(0, 20, 4), (0, 20, 95)]), engine, 1, SCHEDULER)
    assert outcome.turns.tolist() == [1, 10]
    assert outcome.counters.invalid == 6
    assert outcome.end_ms[0] == pytest.approx(40 + sum(10 + 0.02 * n for n in range(21, 31)))


def test_by_length_pads_less_than_first_come(engine: BatchEngine, workload: Rows) -> None:
    requests = workload([(0, prompt, 5) for prompt in (100, 20, 90, 30)])
    first_come = replace(SCHEDULER, batching=Batching.FIRST_COME)
    by_length = replace(SCHEDULER, batching=Batching.BY_LENGTH)
    assert simulate_slices(requests, engine, 1, first_come).counters.pad == 80 + 60
    assert simulate_slices(requests, engine, 1, by_length).counters.pad == 10 + 10


def test_max_min_evens_out_batches_of_different_length(engine: BatchEngine, workload: Rows) -> None:
    # Alternating: in turn, one instance would get all the long prompts.
    requests = workload([(0, prompt, 5) for prompt in (900, 20) * 4])
    alone = replace(SCHEDULER, batching=Batching.FIRST_COME, fixed_batch=1)
    in_turn = replace(alone, offloading=Offloading.ROUND_ROBIN)
    even = simulate_slices(requests, engine, 2, alone)
    uneven = simulate_slices(requests, engine, 2, in_turn)
    assert even.completion_spread_ms < 0.1 * uneven.completion_spread_ms
    assert even.end_ms.max() < uneven.end_ms.max()


def test_round_robin_goes_on_from_round_to_round(engine: BatchEngine, workload: Rows) -> None:
    in_turn = replace(SCHEDULER, offloading=Offloading.ROUND_ROBIN)
    requests = workload([(0, 10, 1), (1500, 10, 1), (2500, 10, 1)])
    outcome = simulate_slices(requests, engine, 2, in_turn)
    assert outcome.end_ms[1] == outcome.instance_end_ms[1]
    assert outcome.end_ms[2] == outcome.instance_end_ms[0]


def test_completed_batches_leave_the_outstanding_work(engine: BatchEngine, workload: Rows) -> None:
    # If the first instance still counted its long batch, the last request would go to the other.
    requests = workload([(0, 900, 5), (0, 800, 5), (9000, 10, 1)])
    alone = replace(SCHEDULER, batching=Batching.FIRST_COME, fixed_batch=1)
    outcome = simulate_slices(requests, engine, 2, alone)
    assert outcome.instance_end_ms[0] == outcome.end_ms[2]


def test_rounds_wait_while_all_instances_have_work(engine: BatchEngine, workload: Rows) -> None:
    # The first round leaves 3,400 ms of work, by the estimate and in truth.
    requests = workload([(0, 3000, 10), (1500, 10, 10)])
    alone = replace(SCHEDULER, fixed_batch=1, batching=Batching.FIRST_COME)
    adaptive = simulate_slices(requests, engine, 1, replace(alone, busy_share=2.0))
    fixed = simulate_slices(requests, engine, 1, replace(alone, busy_share=0.0))
    work = engine.serve_ms(1, 3000, 10)
    short = engine.serve_ms(1, 10, 10)
    assert adaptive.end_ms == pytest.approx([work, 2 * work + short])
    assert fixed.end_ms == pytest.approx([work, work + short])


def test_what_returns_just_when_a_round_starts_takes_part_in_it(
    engine: BatchEngine, workload: Rows
) -> None:
    free = replace(engine, kv_ms_per_token=0.0)
    # 900 ms of prefill and ten steps of 10 ms end with the second round.
    outcome = simulate_slices(workload([(0, 900, 11)]), free, 1, SCHEDULER)
    assert outcome.end_ms == pytest.approx([1000 + 910 + 10])
