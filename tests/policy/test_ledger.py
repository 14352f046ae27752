"""The load book: what it counts, how waiting prefill drains, and that it ends at zero."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.engine_model import EngineModel
from cascade_policy.ledger import PREFILL_FLOOR, PREFILL_SHARE_SECONDS, LoadLedger
from cascade_policy.load import IDLE, MAX_PREFILL_SHARE, InstanceLoad
from cascade_policy.prefix_index import Block
from cascade_policy.profiles import PROFILES

# One ms of prefill per token, and steps so long that a prefill takes exactly twice its own time
# while nothing else runs: phi = 1 + D / (chunk * CP) = 1 + 100 / 100.
SIMPLE = EngineModel(
    base_ms=100,
    per_sequence_ms=0,
    per_kv_token_ms=0,
    heterogeneity=0,
    prefill_ms_per_token=1,
    prefill_ms_per_token_squared=0,
    chunk_tokens=100,
    kv_capacity_tokens=1_000_000,
    max_sequences=1000,
)
PHI = 2.0


def ledger() -> LoadLedger:
    return LoadLedger(SIMPLE, now=0.0)


def test_a_new_book_is_idle() -> None:
    assert ledger().load(0.0) == IDLE


def test_booking_counts_the_prompt_and_its_prefill_at_once() -> None:
    book = ledger()
    book.book(300, 0.0)
    book.book(100, 0.0, cached=60)
    assert book.load(0.0) == InstanceLoad(2, 400, 300**2 + 100**2, 340.0, 0.0)


def test_a_cache_that_holds_more_than_the_prompt_leaves_no_work() -> None:
    book = ledger()
    book.book(100, 0.0, cached=1000)
    assert book.load(0.0).waiting_prefill_ms == 0


def test_tokens_grow_the_sequence_and_the_sums() -> None:
    book = ledger()
    booking = book.book(10, 0.0)
    booking.first_token(0.0)
    booking.grown += 1
    booking.grown += 5
    load = book.load(0.0)
    assert (booking.length, load.kv_tokens, load.kv_tokens_squared) == (16, 16, 256)


def test_the_head_drains_by_wall_time_over_phi_down_to_a_floor() -> None:
    book = ledger()
    book.book(100, 0.0)
    book.book(40, 0.0)
    assert book.load(0.05).waiting_prefill_ms == pytest.approx(140 - 50 / PHI)
    assert book.load(9.0).waiting_prefill_ms == pytest.approx(PREFILL_FLOOR * 100 + 40)


def test_a_first_token_clears_its_own_work_and_everything_older_but_nothing_newer() -> None:
    book = ledger()
    book.book(100, 0.0)
    second = book.book(50, 0.0)
    book.book(30, 0.0)
    second.first_token(0.1)
    assert book.load(0.1).waiting_prefill_ms == pytest.approx(30)


def test_a_prompt_that_is_cancelled_takes_only_its_own_work_along() -> None:
    book = ledger()
    book.book(100, 0.0)
    second = book.book(50, 0.0)
    second.finish(0.0)
    assert book.load(0.0).waiting_prefill_ms == pytest.approx(100)


def test_the_prefill_share_is_work_over_time_and_decays_while_idle() -> None:
    book = ledger()
    booking = book.book(1000, 0.0)
    booking.first_token(4.0)  # one second of work in four
    share = book.load(4.0).prefill_share
    assert share == pytest.approx(0.25 * (1 - math.exp(-4.0 / PREFILL_SHARE_SECONDS)))
    later = book.load(4.0 + PREFILL_SHARE_SECONDS).prefill_share
    assert later == pytest.approx(share / math.e)
    assert book.load(100.0).prefill_share == 0


def test_a_steady_stream_of_prompts_has_the_share_it_really_takes() -> None:
    book = ledger()
    for step in range(200):
        now = step * 0.1
        booking = book.book(30, now)
        booking.first_token(now + 0.06)
        booking.finish(now + 0.1)
    assert book.load(20.0).prefill_share == pytest.approx(0.3, abs=0.02)


def test_the_prefill_share_stays_below_one_even_if_the_model_is_far_too_slow() -> None:
    book = ledger()
    for _ in range(50):
        book.book(10_000, 0.0).first_token(0.001)
    assert book.load(0.001).prefill_share == MAX_PREFILL_SHARE


def test_calls_after_the_end_of_a_booking_change_nothing() -> None:
    book = ledger()
    booking = book.book(10, 0.0)
    booking.finish(0.0)
    booking.finish(0.0)
    booking.grown += 1
    booking.first_token(0.0)
    assert book.load(0.0) == IDLE


def test_a_clock_that_jumps_back_stands_still() -> None:
    book = LoadLedger(SIMPLE, now=10.0)
    booking = book.book(100, 5.0)
    booking.first_token(4.0)
    booking.finish(3.0)
    load = book.load(2.0)
    assert (load.sequences, load.kv_tokens, load.waiting_prefill_ms) == (0, 0, 0.0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("book"), st.integers(0, 5000), st.integers(0, 6000)),
        st.tuples(
            st.sampled_from(["first", "token", "finish"]), st.integers(0, 50), st.integers(1, 9)
        ),
        st.tuples(st.just("wait"), st.integers(0, 3000), st.just(0)),
    ),
    max_size=60,
)


@given(steps=steps, profile=st.sampled_from(sorted(PROFILES)))
def test_any_history_keeps_exact_sums_and_ends_at_zero(
    steps: list[tuple[str, int, int]], profile: str
) -> None:
    now = 0.0
    book = LoadLedger(PROFILES[profile], now)
    bookings: list[Any] = []
    open_ones: list[Any] = []
    for verb, first, second in steps:
        if verb == "wait":
            now += first / 1000
        elif verb == "book":
            bookings.append(book.book(first, now, cached=second))
            open_ones.append(bookings[-1])
        elif bookings:
            booking = bookings[first % len(bookings)]
            if verb == "first":
                booking.first_token(now)
            elif verb == "token":
                booking.grown += second if booking in open_ones else 0
            else:
                booking.finish(now)
                if booking in open_ones:
                    open_ones.remove(booking)
        load = book.load(now)
        assert load.sequences == len(open_ones)
        assert load.kv_tokens == sum(one.length for one in open_ones)
        assert load.kv_tokens_squared == sum(one.length**2 for one in open_ones)
        assert load.waiting_prefill_ms == pytest.approx(
            sum(one.waiting_ms for one in open_ones), abs=1e-6
        )
        assert 0 <= load.prefill_share <= MAX_PREFILL_SHARE
    for booking in bookings:
        booking.finish(now)
    assert book.load(now).waiting_prefill_ms == 0
    assert book.load(now + 60) == IDLE


def test_what_nobody_sees_is_computed_when_its_work_is_done_and_grows_with_the_batch() -> None:
    book = ledger()
    blind = book.book(100, 0.0, blind_tokens=50)
    waits = book.book(40, 0.0)
    assert book.load(0.1).waiting_prefill_ms == pytest.approx(140 - 100 / PHI)
    done = 0.1 * PHI
    load = book.load(done + 0.04)
    assert load.waiting_prefill_ms == pytest.approx(40 - 40 / PHI), "the next prompt is computed"
    assert blind.grown == 0, "a step takes 100 ms and more"
    book.load(done + 3.0)
    assert 20 <= blind.grown <= 30
    book.load(done + 60.0)
    assert blind.grown == 50
    waits.finish(60.0)
    blind.finish(60.0)
    assert book.load(200.0) == IDLE


def test_memory_holds_what_sequences_share_once() -> None:
    book = ledger()
    prompt = (Block(1, 100), Block(2, 180))
    first = book.book(200, 0.0, prefix=prompt)
    second = book.book(250, 0.0, prefix=(*prompt, Block(3, 240)))
    assert book.load(0.0).kv_tokens == 450
    assert book.held_tokens() == 450 - 180
    assert book.shared((Block(1, 100), Block(2, 180), Block(9, 300))) == 180
    first.finish(0.0)
    assert book.held_tokens() == 250
    second.finish(0.0)
    assert (book.held_tokens(), book.shared(prompt)) == (0, 0)


prefixes = st.lists(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 50)), max_size=5), min_size=1, max_size=8
)


def test_a_block_that_holders_count_differently_is_held_once_with_their_mean() -> None:
    book = ledger()
    bookings = [book.book(length, 0.0, prefix=(Block(1, length),)) for length in (40, 10, 10)]
    assert book.held_tokens() == 20
    bookings[0].finish(0.0)
    assert book.held_tokens() == 10


@given(prefixes=prefixes, order=st.randoms())
def test_shared_memory_is_never_negative_and_ends_at_zero(
    prefixes: list[list[tuple[int, int]]], order: Any
) -> None:
    """Hashes name a whole beginning, so a block's hash follows from those before it."""
    book = ledger()
    bookings = []
    for parts in prefixes:
        blocks, name, total = [], 0, 0
        for part, tokens in parts:
            name, total = name * 7 + part, total + tokens
            blocks.append(Block(name, total))
        bookings.append(book.book(total + 1, 0.0, prefix=blocks))
    order.shuffle(bookings)
    for booking in bookings:
        assert 0 < book.held_tokens() <= book.load(0.0).kv_tokens
        booking.finish(0.0)
    assert book.held_tokens() == 0
