"""Hand-overs: what each transport costs, and what calls one off. Times by hand (see builders)."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from cascade_simulator.options import Failure, Links, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policy import Fleet, Move, Resident, Transport
from cascade_simulator.workload import Request, Workload
from tests.simulator.builders import BY_HAND, Scripted, run, workload

FIXED_MS = 5.0
STEP_MS = 11.0
"""A step that decodes one sequence, beside 0.01 ms per token."""


def options(transport: Transport, **links: float) -> RunOptions:
    return RunOptions(links=Links(transport, fixed_ms=FIXED_MS, bytes_per_ms=5000.0, **links))  # type: ignore[arg-type]


def moving_at(generated: int, target: int = 1) -> Callable[[Resident, Fleet], Move | None]:
    def review(sequence: Resident, _fleet: Fleet) -> Move | None:
        return Move(sequence.id, target) if sequence.generated == generated else None

    return review


def first_instance(_sequence: Resident, _fleet: Fleet) -> int:
    return 0


def moved(transport: Transport, prompt: int = 199, output: int = 60) -> Outcome:
    """One request that is moved to an idle instance at its 40th token."""
    policy = Scripted(2, place=first_instance, review=moving_at(40), review_tokens=10)
    return run(workload((0.0, prompt, output)), policy, instances=2, options=options(transport))


def test_recomputing_keeps_the_stream_silent_for_the_whole_prefill() -> None:
    outcome = moved(Transport.RECOMPUTE)
    length = 199 + 40
    assert outcome.handovers.tolist() == [1]
    assert outcome.counters.handovers == 1
    # All but the newest token had been computed before.
    assert outcome.counters.recomputed == length - 1
    assert outcome.handover_gap_ms == pytest.approx([FIXED_MS + 3 * 10 + 0.1 * length])


def test_a_warm_target_computes_the_newest_tokens_only() -> None:
    outcome = moved(Transport.WARM)
    length = 199 + 40
    # While the target computes three chunks, the source emits four more tokens, the last of which
    # it does not bring to an end; blocks of 16 that are not full are computed again.
    warm_up = 3 * 10 + 0.1 * length
    emitted = int(warm_up / (STEP_MS + 0.01 * length))
    newest = length + emitted - length // 16 * 16
    assert outcome.counters.handovers == 1
    [gap] = outcome.handover_gap_ms
    since_last_token = warm_up - emitted * (STEP_MS + 0.01 * length)
    assert gap == pytest.approx(since_last_token + FIXED_MS + 10 + 0.1 * newest, abs=0.2)
    assert gap < moved(Transport.RECOMPUTE).handover_gap_ms[0]
    # All that the source had computed, and at the end what it had of the last block.
    again = length + emitted - 1 - length // 16 * 16
    assert outcome.counters.recomputed == length - 1 + again


def test_a_warm_up_is_lost_when_its_memory_is_needed_before_the_sequence_comes() -> None:
    engine = replace(BY_HAND, kv_capacity_tokens=300)

    def place(sequence: Resident, _fleet: Fleet) -> int:
        return sequence.id

    policy = Scripted(2, place=place, review=moving_at(40), review_tokens=10)
    setup = RunOptions(links=Links(Transport.WARM, fixed_ms=80.0))
    # The warm-up is complete at about 640 ms; the other prompt comes before the sequence does.
    outcome = run(workload((0.0, 199, 60), (680.0, 200, 20)), policy, engine, 2, setup)
    length = 199 + 40
    assert outcome.counters.handovers == 1
    assert outcome.counters.prefilled > 199 + 200 + 2 * length
    assert outcome.first_token_ms[1] == pytest.approx(680.0 + 40.0)
    assert outcome.end_ms[0] > outcome.end_ms[1]


def test_a_copy_stops_the_stream_for_the_fixed_part_and_a_step() -> None:
    outcome = moved(Transport.COPY)
    length = 199 + 40
    copy_ms = length * BY_HAND.kv_bytes_per_token / 5000.0
    emitted = int(copy_ms / (STEP_MS + 0.01 * length))
    assert outcome.counters.copied == length + emitted
    assert outcome.counters.recomputed == 0
    [gap] = outcome.handover_gap_ms
    # From the last whole step at the source to the end of the first one at the target.
    assert FIXED_MS + STEP_MS < gap < FIXED_MS + 2 * (STEP_MS + 0.01 * 250)


@pytest.mark.parametrize("transport", [Transport.WARM, Transport.COPY])
def test_a_sequence_that_ends_meanwhile_calls_its_move_off(transport: Transport) -> None:
    outcome = moved(transport, prompt=2000, output=42)
    stayed = run(workload((0.0, 2000, 42)))
    assert outcome.end_ms == pytest.approx(stayed.end_ms)
    assert outcome.counters.handovers == 0
    assert outcome.samples.kv_use[-1].tolist() == [pytest.approx(stayed.samples.kv_use[-1, 0]), 0]


def test_a_target_takes_only_so_many_copies_at_a_time() -> None:
    policy = Scripted(2, place=first_instance, review=moving_at(10), review_tokens=10)
    work = workload(*[(0.0, 20, 100)] * 4)
    outcome = run(work, policy, instances=2, options=options(Transport.COPY, inbound=1))
    counters = outcome.counters
    assert counters.handovers + counters.refused_handovers == 4
    assert counters.refused_handovers >= 2


def test_a_full_target_refuses() -> None:
    engine = replace(BY_HAND, kv_capacity_tokens=400)

    def place(sequence: Resident, _fleet: Fleet) -> int:
        return sequence.id

    def review(sequence: Resident, _fleet: Fleet) -> Move | None:
        return Move(0, 1) if (sequence.id, sequence.generated) == (0, 50) else None

    policy = Scripted(2, place=place, review=review, review_tokens=50)
    work = workload((0.0, 200, 60), (0.0, 200, 80))
    outcome = run(work, policy, engine, 2, options(Transport.COPY))
    assert outcome.counters.handovers == 0
    assert outcome.counters.refused_handovers == 1


def test_a_waiting_sequence_is_just_sent_elsewhere() -> None:
    engine = replace(BY_HAND, max_sequences=1)

    def tick(fleet: Fleet) -> Iterable[Move]:
        return [Move(sequence.id, 1) for sequence in fleet.waiting(0)]

    policy = Scripted(2, place=first_instance, tick=tick, tick_ms=100.0)
    outcome = run(workload((0.0, 20, 100), (0.0, 20, 1)), policy, engine, 2)
    assert outcome.first_token_ms[1] == pytest.approx(100.0 + 12.0)
    assert outcome.handovers.tolist() == [0, 0]
    assert outcome.instance.tolist() == [0, 0]


def test_a_move_in_the_middle_of_a_step_loses_its_token() -> None:
    def tick(fleet: Fleet) -> Iterable[Move]:
        return [Move(sequence.id, 1) for sequence in fleet.running(0)] if fleet.now_ms < 60 else ()

    policy = Scripted(2, place=first_instance, tick=tick, tick_ms=50.0)
    outcome = run(workload((0.0, 20, 9)), policy, instances=2, options=options(Transport.RECOMPUTE))
    # Tokens at 12, 23.2, 34.4 and 45.7 ms; the step under way at 50 ms is in vain.
    stop = 12 + 3 * STEP_MS + 0.01 * (21 + 22 + 23)
    next_token = 50.0 + FIXED_MS + 10 + 0.1 * 24
    assert outcome.handover_gap_ms == pytest.approx([next_token - stop])
    assert outcome.end_ms == pytest.approx([next_token + 4 * STEP_MS + 0.01 * (25 + 26 + 27 + 28)])


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize("dead", [0, 1], ids=["the source dies", "the target dies"])
@pytest.mark.parametrize("at_ms", [500.0, 520.0, 560.0, 700.0])
def test_a_death_in_the_middle_of_a_move_loses_nothing(
    transport: Transport, dead: int, at_ms: float
) -> None:
    policy = Scripted(3, place=_lowest_alive, review=moving_at(40), review_tokens=10)
    setup = replace(options(transport), failures=(Failure(dead, at_ms, 5000.0),))
    outcome = run(workload((0.0, 199, 60)), policy, instances=3, options=setup)
    assert policy.ended == [0]
    assert outcome.end_ms[0] < 3000


def _lowest_alive(_sequence: Resident, fleet: Fleet) -> int:
    return min(instance.index for instance in fleet.instances if instance.alive)


def test_sequences_of_a_dead_instance_go_on_elsewhere_from_where_they_were() -> None:
    setup = RunOptions(failures=(Failure(0, 100.0, 1000.0),))
    policy = Scripted(2, place=_lowest_alive)
    outcome = run(workload((0.0, 20, 40)), policy, instances=2, options=setup)
    # Eight tokens are out at 100 ms: at 12, 23.2, ... 91 ms.
    emitted = 8
    next_token = 100.0 + 10 + 0.1 * (20 + emitted)
    rest = range(20 + emitted + 1, 20 + 40)
    assert outcome.counters.rescues == 1
    assert outcome.end_ms == pytest.approx([next_token + sum(STEP_MS + 0.01 * n for n in rest)])
    assert outcome.first_token_ms == pytest.approx([12.0])


def test_a_step_that_was_under_way_at_a_death_never_ends() -> None:
    setup = RunOptions(failures=(Failure(0, 15.0, 16.0),))
    outcome = run(workload((0.0, 200, 2)), options=setup)
    # Dead in the first of two chunks; both are computed from the moment when it is back.
    assert outcome.first_token_ms == pytest.approx([16.0 + 40.0])
    assert outcome.end_ms == pytest.approx([16.0 + 40.0 + 11 + 2.01])


def test_when_all_are_dead_requests_wait_for_the_first_that_is_back() -> None:
    setup = RunOptions(failures=(Failure(0, 100.0, 1000.0),))
    outcome = run(workload((0.0, 20, 40), (500.0, 20, 1)), options=setup)
    # The rescued one is first, with its eight tokens; the new one is computed beside its next.
    assert outcome.first_token_ms[1] == pytest.approx(1000 + (10 + 2.8) + (STEP_MS + 0.29 + 2.0))
    assert outcome.counters.rescues == 1


def test_prompts_of_a_moved_sequence_are_reused_at_its_target() -> None:
    blocks = tuple(range(10))
    work = Workload(
        "alike",
        (Request(0.0, 330, 60, blocks), Request(3000.0, 330, 1, blocks)),
        block_tokens=32,
    )

    def place(sequence: Resident, fleet: Fleet) -> int:
        cached = [one.cached_tokens(sequence.request) for one in fleet.instances]
        return cached.index(max(cached)) if any(cached) else 0

    policy = Scripted(2, place=place, review=moving_at(40), review_tokens=10)
    setup = replace(options(Transport.COPY), prefix_cache=True)
    outcome = run(work, policy, instances=2, options=setup)
    assert outcome.counters.handovers == 1
    assert outcome.counters.prefix_hits == 320
    assert outcome.ttft_ms[1] == pytest.approx(10 + 0.1 * 10)
