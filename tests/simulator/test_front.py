"""What waits at the front, and what policies see of instances."""

from dataclasses import replace

import pytest

from cascade_policy.load import InstanceLoad
from cascade_simulator.options import RunOptions
from cascade_simulator.policy import Fleet, Move, Resident
from cascade_simulator.workload import Request, Workload
from tests.simulator.builders import BY_HAND, Scripted, run, workload


def test_a_refused_request_is_offered_again_when_a_sequence_ends() -> None:
    def one_at_a_time(_sequence: Resident, fleet: Fleet) -> int | None:
        return None if fleet.instances[0].load.sequences else 0

    outcome = run(
        workload((0.0, 20, 3), (1.0, 20, 3), (2.0, 20, 3)), Scripted(1, place=one_at_a_time)
    )
    # Oldest first, each from the end of the one before.
    assert outcome.first_token_ms[1] == pytest.approx(outcome.end_ms[0] + 12)
    assert outcome.first_token_ms[2] == pytest.approx(outcome.end_ms[1] + 12)


def test_a_refused_request_is_offered_again_at_each_tick() -> None:
    def later(_sequence: Resident, fleet: Fleet) -> int | None:
        return 0 if fleet.now_ms >= 250 else None

    outcome = run(workload((0.0, 20, 1)), Scripted(1, place=later, tick_ms=100.0))
    assert outcome.first_token_ms == pytest.approx([300.0 + 12.0])


def test_requests_are_placed_in_the_order_in_which_they_came_however_many_wait() -> None:
    def one_at_a_time(_sequence: Resident, fleet: Fleet) -> int | None:
        return None if fleet.instances[0].load.sequences else 0

    policy = Scripted(1, place=one_at_a_time)
    run(workload(*[(0.0, 20, 2)] * 50), policy)
    assert policy.ended == list(range(50))


def seen_by_arrivals(stale_ms: float) -> list[InstanceLoad]:
    """The load of the only instance at each of four arrivals: 0, 50, 60 and 250 ms."""
    seen: list[InstanceLoad] = []

    def place(_sequence: Resident, fleet: Fleet) -> int:
        seen.append(fleet.instances[0].load)
        return 0

    rows = [(0.0, 100, 50), (50.0, 100, 50), (60.0, 100, 50), (250.0, 100, 50)]
    run(workload(*rows), Scripted(1, place=place), options=RunOptions(stale_ms=stale_ms))
    return seen


def test_fresh_state_is_exact() -> None:
    first, second, third, _ = seen_by_arrivals(0.0)
    assert (first.sequences, first.kv_tokens, first.waiting_prefill_ms) == (0, 0, 0)
    # The first prompt took 20 ms and gave a token; steps of 12.01 and 12.02 ms gave two more.
    assert (second.sequences, second.kv_tokens, second.waiting_prefill_ms) == (1, 103, 0)
    assert second.kv_tokens_squared == 103**2
    assert 0 < second.prefill_share < 0.01
    # Its step under way ends at 56 ms, then the second prompt is begun, and not finished at 60 ms.
    assert third.sequences == 2
    assert third.waiting_prefill_ms == pytest.approx(10.0)


def test_old_state_knows_what_was_sent_since() -> None:
    first, second, third, fourth = seen_by_arrivals(200.0)
    assert (first.sequences, second.sequences, third.sequences) == (0, 1, 2)
    # Neither tokens nor progress are heard of before 200 ms have passed.
    assert (second.kv_tokens, third.kv_tokens) == (100, 200)
    assert second.waiting_prefill_ms == pytest.approx(10.0)
    assert third.waiting_prefill_ms == pytest.approx(20.0)
    assert fourth == seen_by_arrivals(0.0)[3]


def test_old_state_knows_what_was_moved_since() -> None:
    seen: list[list[int]] = []

    def review(sequence: Resident, fleet: Fleet) -> Move | None:
        seen.append([instance.load.sequences for instance in fleet.instances])
        return Move(sequence.id, 1) if sequence.generated == 10 else None

    policy = Scripted(2, place=lambda _sequence, _fleet: 0, review=review, review_tokens=10)
    run(workload((0.0, 20, 30)), policy, instances=2, options=RunOptions(stale_ms=1e9))
    # After the first token and ten, and then at the target.
    assert seen == [[1, 0], [1, 0], [0, 1]]


def test_waiting_work_shrinks_when_a_prompt_turns_out_to_be_cached() -> None:
    seen: list[float] = []

    def place(_sequence: Resident, fleet: Fleet) -> int:
        seen.append(fleet.instances[0].load.waiting_prefill_ms)
        return 0

    blocks = tuple(range(6))
    requests = [Request(time, 97, 1, blocks) for time in (0.0, 1.0, 25.0)]
    work = Workload("alike", tuple(requests), 16)
    run(work, Scripted(1, place=place), options=RunOptions(prefix_cache=True))
    # While the second prompt waited, the first one was computed: one token of it is left to do.
    assert seen == [0.0, pytest.approx(9.7), pytest.approx(0.1)]


def test_policies_price_waiting_prefill_with_the_model_they_believe_in() -> None:
    seen: list[float] = []

    def place(_sequence: Resident, fleet: Fleet) -> int:
        assert fleet.model.prefill_ms_per_token == 0.2
        seen.append(fleet.instances[0].load.waiting_prefill_ms)
        return 0

    believed = replace(BY_HAND, prefill_ms_per_token=0.2)
    outcome = run(
        workload((0.0, 100, 1), (5.0, 100, 1)),
        Scripted(1, place=place),
        options=RunOptions(believed=believed),
    )
    assert seen == [0.0, pytest.approx(20.0)]
    assert outcome.first_token_ms == pytest.approx([20.0, 40.0])


def test_waiting_sequences_are_those_that_no_step_has_included() -> None:
    seen: list[tuple[int, int, list[int], list[int]]] = []

    def place(_sequence: Resident, fleet: Fleet) -> int:
        instance = fleet.instances[0]
        waiting = [one.id for one in fleet.waiting(0)]
        running = [one.id for one in fleet.running(0)]
        seen.append((instance.waiting_sequences, instance.waiting_tokens, waiting, running))
        return 0

    run(
        workload((0.0, 20, 30), (20.0, 30, 5), (21.0, 40, 5), (45.0, 10, 5)),
        Scripted(1, place=place),
    )
    assert seen[0] == (0, 0, [], [])
    assert seen[2] == (1, 30, [1], [0])
    assert seen[3][:2] == (0, 0)
    assert seen[3][3] == [0, 1, 2]
