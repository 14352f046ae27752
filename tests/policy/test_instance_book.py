"""What a router makes of a sequence that is offered to its engine."""

from dataclasses import replace

import pytest

from cascade_policy.arrival import Arrival, Purpose, Question
from cascade_policy.book_state import Gauges
from cascade_policy.engine_model import EngineModel
from cascade_policy.instance_book import (
    MAX_WARMING,
    RESERVATION_SECONDS,
    InstanceBook,
    RefusalReason,
    Stay,
    Terms,
)
from cascade_policy.load import IDLE
from cascade_policy.prefix_index import Block
from cascade_policy.profiles import profile
from cascade_policy.stage_map import Handoff

MODEL: EngineModel = replace(profile("simulated"), kv_capacity_tokens=16_000, block_tokens=16)
TERMS = Terms(MODEL, Handoff(slice_tokens=64), 100.0)
PROMPT = (Block(1, 256), Block(2, 512), Block(3, 600))
GAUGES = Gauges(blocks=1000, block_tokens=16, caching=True, use=0.0, preemptions=0)


def book() -> InstanceBook:
    return InstanceBook(TERMS, 0.0)


def measure(one: InstanceBook, gauges: Gauges, now: float) -> None:
    """The engine tells its gauges at once."""
    one.measured(gauges, one.computed_so_far(now), now)


def test_an_empty_engine_offers_all_it_has_but_what_stays_free() -> None:
    offer = book().offer(Question(100), 0.0)
    assert offer.load == IDLE
    assert offer.capacity_tokens == (1000 - 1 - 10) * 16
    assert offer.free_tokens == (1000 - 1 - 10 - 20 - 1) * 16
    assert (offer.cached, offer.shared, offer.use) == (0, 0, 0.0)


def test_a_prompt_that_was_here_is_cached_and_while_it_runs_shared() -> None:
    one = book()
    stay = one.enter(Arrival(600, prefix=PROMPT), 0.0)
    longer = (*PROMPT[:2], Block(9, 700))
    offer = one.offer(Question(700, longer), 0.0)
    assert (offer.cached, offer.shared) == (512, 512)
    stay.leave(1.0)
    offer = one.offer(Question(700, longer), 1.0)
    assert (offer.cached, offer.shared) == (512, 0)
    assert one.load(100.0) == IDLE


def test_a_cached_prefix_makes_the_arrival_less_work() -> None:
    one = book()
    one.enter(Arrival(600, prefix=PROMPT), 0.0).leave(0.0)
    again = one.enter(Arrival(600, prefix=PROMPT), 100.0)
    assert again.booking.work_ms == 0
    assert one.enter(Arrival(600), 100.0).booking.work_ms == MODEL.prefill_ms(600)


def test_a_sequence_that_ran_here_is_known_by_its_name_with_all_its_tokens() -> None:
    one = book()
    stay = one.enter(Arrival(600, prefix=PROMPT, sequence="a/1"), 0.0)
    stay.booking.grown = 150
    stay.leave(1.0)
    assert one.offer(Question(800, sequence="a/1"), 1.0).cached == 750
    assert one.offer(Question(800, sequence="a/2"), 1.0).cached == 0


def test_an_engine_that_evicted_a_prefix_corrects_the_index() -> None:
    one = book()
    older = (Block(7, 300),)
    one.enter(Arrival(300, prefix=older), 0.0).leave(0.0)
    one.enter(Arrival(600, prefix=PROMPT), 0.0).leave(0.0)
    stay = one.enter(Arrival(600, prefix=PROMPT), 1.0)
    stay.computed(0)
    stay.leave(2.0)
    assert one.offer(Question(300, older), 2.0).cached == 0
    assert one.offer(Question(600, PROMPT), 2.0).cached == 600, "it was computed anew"


@pytest.mark.parametrize("event", ["no cache", "restarted", "counters that went back"])
def test_what_the_engine_cannot_hold_is_not_believed(event: str) -> None:
    one = book()
    measure(one, replace(GAUGES, preemptions=5), 0.0)
    one.enter(Arrival(600, prefix=PROMPT, sequence="a/1"), 0.0).leave(0.0)
    if event == "no cache":
        measure(one, replace(GAUGES, preemptions=5, caching=False), 1.0)
    elif event == "restarted":
        one.restarted()
    else:
        measure(one, GAUGES, 1.0)
    assert one.offer(Question(600, PROMPT, "a/1"), 1.0).cached == 0


def test_the_engines_own_memory_counts_not_the_profiles() -> None:
    one = book()
    measure(one, replace(GAUGES, blocks=100, block_tokens=128, use=0.5), 0.0)
    offer = one.offer(Question(100), 0.0)
    assert offer.capacity_tokens == (100 - 1 - 1) * 128
    assert offer.use == 0.5


def arrival_of(length: int, **fields: object) -> Arrival:
    return Arrival(length, remaining=100.0, **fields)  # type: ignore[arg-type]


def test_what_fits_is_taken_and_what_does_not_has_to_wait() -> None:
    one = book()
    stays = []
    while one.refusal(arrival_of(1000), 0.0) is None:
        stays.append(one.enter(arrival_of(1000), 0.0))
    assert one.refusal(arrival_of(1000), 0.0) is RefusalReason.MEMORY
    assert 10 <= len(stays) <= 14, "each takes its length, and two slices to grow"
    assert one.refusal(arrival_of(30_000), 0.0) is None, "no waiting would help"
    stays[0].leave(1.0)
    assert one.refusal(arrival_of(1000), 1.0) is None


def test_twenty_that_share_a_prefix_fit_where_their_sum_would_not() -> None:
    one = book()
    shared = (Block(1, 2560),)
    taken = 0
    while taken < 20 and one.refusal(arrival_of(2600, prefix=shared), 0.0) is None:
        one.enter(arrival_of(2600, prefix=shared), 0.0)
        taken += 1
    assert taken == 20


def test_what_the_engine_saves_counts_for_those_that_were_there_when_it_was_measured() -> None:
    one = book()
    stays = [one.enter(arrival_of(1000), 0.0) for _ in range(10)]
    for stay in stays:
        stay.booking.first_token(0.5)
    free = one.offer(Question(), 1.0).free_tokens or 0
    measure(one, replace(GAUGES, use=0.3), 1.0)
    saved = (one.offer(Question(), 1.0).free_tokens or 0) - free
    assert saved == pytest.approx(10_000 - 0.3 * 16_000, abs=16)
    one.enter(arrival_of(1000), 1.0)
    assert free + saved - (one.offer(Question(), 1.0).free_tokens or 0) >= 1000, (
        "a newcomer is whole"
    )
    for stay in stays:
        stay.leave(2.0)
    assert (one.offer(Question(), 2.0).free_tokens or 0) < 16_000 - 1000 + 16_000 * 0.2


def test_prompts_that_are_not_computed_yet_save_nothing() -> None:
    one = book()
    for _ in range(10):
        one.enter(arrival_of(1000), 0.0)
    free = one.offer(Question(), 0.0).free_tokens
    measure(one, replace(GAUGES, use=0.0), 0.0)
    assert one.offer(Question(), 0.0).free_tokens == free


def test_prompts_computed_while_the_gauges_were_on_their_way_save_nothing() -> None:
    one = book()
    asked = one.computed_so_far(0.0)
    stays = [one.enter(arrival_of(1000), 0.0) for _ in range(10)]
    for stay in stays:
        stay.booking.first_token(0.5)
    free = one.offer(Question(), 1.0).free_tokens
    one.measured(replace(GAUGES, use=0.0), asked, 1.0)
    assert one.offer(Question(), 1.0).free_tokens == free


def test_sequences_that_left_while_the_gauges_were_on_their_way_saved_nothing() -> None:
    one = book()
    before = [one.enter(arrival_of(1000), 0.0) for _ in range(10)]
    for stay in before:
        stay.booking.first_token(0.5)
    asked = one.computed_so_far(1.0)
    for stay in before:
        stay.leave(1.0)
    after = [one.enter(arrival_of(1000), 1.0) for _ in range(10)]
    for stay in after:
        stay.booking.first_token(1.5)
    free = one.offer(Question(), 2.0).free_tokens
    one.measured(replace(GAUGES, use=0.0), asked, 2.0)
    assert one.offer(Question(), 2.0).free_tokens == free


def crowd(one: InstanceBook, lengths: list[int], **fields: object) -> list[Stay]:
    stays = [one.enter(arrival_of(length, **fields), 0.0) for length in lengths]
    for stay in stays:
        stay.leave_please = lambda _: None
        stay.booking.grown = 1
    return stays


def test_the_newest_leave_before_memory_runs_out_and_each_is_asked_once() -> None:
    one = book()
    stays = crowd(one, [3000] * 5, movable=True)
    assert one.crowding(0.0, 0.1) == []
    stays[0].booking.grown = 900
    assert one.crowding(0.0, 0.1) == [stays[4]]
    assert one.crowding(0.1, 0.1) == [], "it is on its way"
    stays[4].leave(0.2)
    assert one.crowding(0.2, 0.1) == []


def test_what_is_pinned_is_never_asked_to_leave() -> None:
    one = book()
    (movable,) = crowd(one, [3000], movable=True)
    pinned = crowd(one, [3000] * 3)
    pinned[0].booking.grown = 8000
    assert one.crowding(0.0, 0.1) == [movable]


def test_what_shares_its_prompt_frees_only_its_own_part() -> None:
    one = book()
    sharing = crowd(one, [3000] * 3, movable=True, prefix=(Block(1, 2900),))
    sharing[0].booking.grown = 12_800
    assert len(one.crowding(0.0, 0.1)) == 2, "the newest alone would free 100 tokens"


def test_the_last_sequence_is_never_asked() -> None:
    one = book()
    (alone,) = crowd(one, [3000], movable=True)
    alone.booking.grown = 20_000
    assert one.crowding(0.0, 0.1) == []


def test_after_a_preemption_more_stays_free_for_a_minute() -> None:
    one = book()
    measure(one, GAUGES, 0.0)
    free = one.offer(Question(), 0.0).free_tokens or 0
    measure(one, replace(GAUGES, preemptions=1), 2.0)
    careful = one.offer(Question(), 2.0).free_tokens or 0
    assert free - careful == 20 * 16
    assert one.offer(Question(), 63.0).free_tokens == free


def test_a_price_that_has_risen_is_refused_unless_none_was_bid() -> None:
    one = book()
    low = arrival_of(600, bid=1.0)
    assert one.refusal(low, 0.0) is RefusalReason.PRICE
    assert one.refusal(arrival_of(600), 0.0) is None
    assert one.refusal(arrival_of(600, bid=1e9), 0.0) is None


def test_warm_ups_are_bounded_and_count_no_memory_check() -> None:
    one = book()
    warm = arrival_of(600, purpose=Purpose.WARM)
    stays = [one.enter(warm, 0.0) for _ in range(MAX_WARMING)]
    assert one.refusal(warm, 0.0) is RefusalReason.WARMING
    stays[0].leave(1.0)
    stays[0].leave(1.0)
    assert one.refusal(warm, 1.0) is None
    assert one.warming == MAX_WARMING - 1


def test_a_reservation_keeps_room_for_its_holder_alone_and_lapses() -> None:
    one = book()
    long = Question(9000, sequence="long", reserve=True)
    assert one.offer(long, 0.0).reserved
    assert one.refusal(arrival_of(9000, sequence="other"), 0.0) is RefusalReason.MEMORY
    assert one.refusal(arrival_of(1000, sequence="other"), 0.0) is None, "room beside it"
    assert one.refusal(arrival_of(9000, sequence="long"), 0.0) is None
    assert not one.offer(replace(long, sequence="other"), 0.5).reserved, "one at a time"
    assert one.offer(long, 0.5).reserved, "its holder may renew it"
    lapsed = 0.5 + RESERVATION_SECONDS
    assert one.refusal(arrival_of(9000, sequence="other"), lapsed) is None


def test_a_reservation_ends_when_its_holder_arrives() -> None:
    one = book()
    one.offer(Question(9000, sequence="long", reserve=True), 0.0)
    stay = one.enter(arrival_of(9000, sequence="long"), 0.1)
    stay.leave(0.2)
    assert one.refusal(arrival_of(9000, sequence="other"), 0.3) is None


def test_an_index_that_is_switched_off_believes_nothing() -> None:
    one = InstanceBook(TERMS, 0.0, max_prefix_tokens=0)
    one.enter(Arrival(600, prefix=PROMPT), 0.0).leave(0.0)
    assert one.offer(Question(600, PROMPT), 0.0).cached == 0
