"""Slice admission: what fits, who waits, who goes first, and when to come back."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.admission import (
    AdmissionReason,
    Reservation,
    Room,
    Waiting,
    admit,
    blocks_needed,
    most_urgent,
    retry_after_seconds,
    room,
)
from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.profiles import profile

MODEL = replace(profile("simulated"), kv_capacity_tokens=16_000, block_tokens=16)
EMPTY = room(IDLE, MODEL, 64)


def loaded(*lengths: int) -> InstanceLoad:
    load = IDLE
    for length in lengths:
        load = load.plus(length)
    return load


@pytest.mark.parametrize(
    ("length", "growth", "shared", "blocks"),
    [
        pytest.param(15, 0, 0, 1, id="the token being written fits into the block"),
        pytest.param(16, 0, 0, 2, id="a full block leaves no place for the next token"),
        pytest.param(100, 64, 0, 11, id="the slice is part of the need"),
        pytest.param(100, 64, 100, 5, id="six full shared blocks are counted elsewhere"),
        pytest.param(100, 64, 15, 11, id="a block that is shared in part is not shared"),
    ],
)
def test_blocks_needed(length: int, growth: int, shared: int, blocks: int) -> None:
    assert blocks_needed(length, growth, 16, shared) == blocks


@pytest.mark.parametrize(
    ("need", "space", "reservation", "reason"),
    [
        pytest.param(900, EMPTY, None, AdmissionReason.FITS, id="it fits into the empty engine"),
        pytest.param(
            989, EMPTY, None, AdmissionReason.FITS, id="an empty engine needs no margin for others"
        ),
        pytest.param(990, EMPTY, None, AdmissionReason.TOO_LONG, id="it would never fit"),
        pytest.param(
            100, Room(989, 900, 3, 64, 20), None, AdmissionReason.NO_MEMORY, id="memory is booked"
        ),
        pytest.param(
            69, Room(989, 900, 3, 64, 20), None, AdmissionReason.FITS, id="the last free block"
        ),
        pytest.param(
            1, Room(989, 10, 64, 64, 20), None, AdmissionReason.FULL_BATCH, id="the batch is full"
        ),
        pytest.param(
            10,
            Room(989, 900, 3, 64, 20),
            Reservation(7, 60),
            AdmissionReason.RESERVED,
            id="a short one may not take what a long one waits for",
        ),
        pytest.param(
            9,
            Room(989, 900, 3, 64, 20),
            Reservation(7, 60),
            AdmissionReason.FITS,
            id="what leaves room for the reservation may pass",
        ),
        pytest.param(
            10,
            EMPTY,
            Reservation(7, 960),
            AdmissionReason.RESERVED,
            id="a reservation holds on an empty engine too",
        ),
    ],
)
def test_admission(
    need: int, space: Room, reservation: Reservation | None, reason: AdmissionReason
) -> None:
    verdict = admit(need, space, reservation)

    assert verdict.reason is reason
    assert verdict.admitted is (reason is AdmissionReason.FITS)


def test_shared_blocks_that_the_engine_reports_make_room() -> None:
    load = loaded(*[2600] * 6)

    assert room(load, MODEL, 64).free < 0
    assert room(load, MODEL, 64, saved_blocks=678).free > 500


def test_the_margin_doubles_for_a_minute_after_a_preemption() -> None:
    load = loaded(500, 500)
    usual = room(load, MODEL, 64)

    assert room(load, MODEL, 64, since_preemption_ms=59_000).margin == 2 * usual.margin
    assert room(load, MODEL, 64, since_preemption_ms=61_000) == usual


@given(
    lengths=st.lists(st.integers(1, 4_000), max_size=60),
    growth=st.integers(0, 512),
    data=st.data(),
)
def test_what_was_admitted_one_by_one_always_fits(
    lengths: list[int], growth: int, data: st.DataObject
) -> None:
    """However far each sequence grows within its slice, the blocks never run out."""
    load, admitted = IDLE, []
    for length in lengths:
        need = blocks_needed(length, growth, MODEL.block_tokens)
        if admit(need, room(load, MODEL, growth)).admitted:
            load = load.plus(length)
            admitted.append(length)
    grown = [length + data.draw(st.integers(0, growth)) for length in admitted]

    assert sum(-(-(length + 1) // 16) for length in grown) <= EMPTY.capacity


def waiting(identity: int, arrived: float, deadline: float, work: float = 0.0) -> Waiting:
    return Waiting(identity, arrived, deadline, work)


def test_the_head_of_the_queue_has_the_least_slack() -> None:
    relaxed, urgent, long = waiting(1, 0, 900), waiting(2, 5, 500), waiting(3, 3, 800, work=500)

    assert most_urgent([relaxed, urgent], 10) is urgent
    assert most_urgent([relaxed, urgent, long], 10) is long


def test_of_equal_slack_who_came_first_is_the_head() -> None:
    later, earlier = waiting(1, 20, 900), waiting(2, 10, 900)

    assert most_urgent([later, earlier], 30) is earlier


def test_past_half_of_its_slack_a_request_holds_a_reservation() -> None:
    one = waiting(1, arrived=1000, deadline=3000, work=1000)

    assert not one.holds_reservation(1499)
    assert one.holds_reservation(1500)


def test_a_request_that_cannot_make_its_deadline_holds_a_reservation_at_once() -> None:
    assert waiting(1, arrived=0, deadline=100, work=500).holds_reservation(0)


@pytest.mark.parametrize(
    ("ahead", "rate", "seconds"),
    [
        pytest.param(10, 5.0, 2, id="as long as those before it take"),
        pytest.param(0, 5.0, 1, id="never at once"),
        pytest.param(10_000, 5.0, 60, id="never longer than a minute"),
        pytest.param(10, 0.0, 60, id="nothing completes"),
    ],
)
def test_retry_after(ahead: int, rate: float, seconds: int) -> None:
    assert retry_after_seconds(ahead, rate) == seconds
