"""The books behind what policies see."""

import math

import pytest

from cascade_policy.ledger import PREFILL_SHARE_SECONDS
from cascade_simulator.decode_set import DecodeSet
from cascade_simulator.live_sequence import LiveSequence
from cascade_simulator.prefill_queue import PrefillShare
from cascade_simulator.workload import Request

SPAN_MS = PREFILL_SHARE_SECONDS * 1000


def test_the_share_of_prefill_approaches_what_it_is_in_every_step() -> None:
    share = PrefillShare()
    for step in range(100):
        share.add(step * SPAN_MS / 100, (step + 1) * SPAN_MS / 100, 0.4 * SPAN_MS / 100)
    assert share.at(SPAN_MS) == pytest.approx(0.4 * (1 - math.exp(-1)))


def test_the_share_of_prefill_decays_while_none_is_done() -> None:
    share = PrefillShare()
    share.add(0.0, SPAN_MS, 0.8 * SPAN_MS)
    first = 0.8 * (1 - math.exp(-1))
    assert share.at(2 * SPAN_MS) == pytest.approx(first * math.exp(-1))
    # A later step adds to what is left by then.
    share.add(2 * SPAN_MS, 2 * SPAN_MS + 10, 5.0)
    left = first * math.exp(-1 - 10 / SPAN_MS)
    assert share.at(2 * SPAN_MS + 10) == pytest.approx(left + 5.0 / SPAN_MS, rel=1e-3)


def test_the_share_of_prefill_stays_within_its_limits() -> None:
    share = PrefillShare()
    assert share.at(100.0) == 0
    for step in range(20):
        share.add(step * SPAN_MS, (step + 1) * SPAN_MS, SPAN_MS)
    assert share.at(20 * SPAN_MS) == 0.9
    assert share.at(40 * SPAN_MS) == 0


def test_who_left_and_came_back_is_looked_up_at_its_new_end_only() -> None:
    decodes = DecodeSet(review_tokens=None)
    sequence, other = (LiveSequence(number, Request(0.0, 10, 5)) for number in range(2))
    decodes.add(sequence, 11)
    decodes.add(other, 11)
    assert decodes.advance() == []
    decodes.remove(sequence)
    assert decodes.advance() == []
    decodes.add(sequence, 12)
    due = [decodes.advance() for _ in range(3)]
    assert due == [[], [other], [sequence]]
