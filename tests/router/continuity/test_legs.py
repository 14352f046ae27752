"""The pure part of the router over any number of legs: text, ids, usage and form of the client's
stream are those of an uninterrupted one, wherever events, reads and legs begin and end."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from e2e.continuity_suite.answer import read_stream
from e2e.continuity_suite.wire import Received
from e2e.engine_simulator.vocabulary import FIRST_BYTE, LEAD_IDS, SIZE, WORD_IDS
from tests.router.continuity.legs import Leg, Question, Style, client_stream

BUNDLES = st.lists(st.integers(1, 5), min_size=1, max_size=4)
PIECES = st.one_of(
    st.lists(st.integers(20, 900), min_size=1, max_size=6), st.just([7]), st.just([1 << 20])
)
LEAVING = st.builds(Leg, BUNDLES, PIECES, leave_at=st.integers(0, 50))
LOST = st.builds(Leg, BUNDLES, PIECES, lost_at=st.integers(0, 9_000))
ANY_IDS = st.lists(st.integers(FIRST_BYTE, SIZE - 1), min_size=1, max_size=6)
WORDS = st.lists(st.sampled_from(WORD_IDS), min_size=1, max_size=6)
QUESTIONS = st.builds(
    Question,
    WORDS,
    st.integers(1, 60),
    chat=st.booleans(),
    wants_ids=st.booleans(),
    wants_usage=st.booleans(),
    ignore_eos=st.booleans(),
    style=st.builds(Style, st.booleans(), st.booleans(), st.booleans(), st.booleans()),
)


def check(question: Question, legs: Sequence[Leg]) -> None:
    """The client's stream is the uninterrupted one."""
    data, stream = client_stream(question, legs)
    head = {"content-type": "text/event-stream"}
    received = Received(200, head)
    received.add(data)
    answer = read_stream(received)
    want = question.expected()
    assert (answer.faults, answer.error) == ([], None)
    choice = answer.choices[0]
    assert choice.text == want.text
    assert choice.finish == [want.finish_reason]
    assert tuple(choice.ids) == (want.ids if question.wants_ids else ())
    assert stream.tokens == len(want.ids)
    if question.wants_ids:
        assert choice.prompt_ids == list(question.prompt)
    if not question.wants_usage:
        assert answer.usage is None
    elif stream.leg:
        assert answer.usage is not None
        assert answer.usage["completion_tokens"] == len(want.ids)


@settings(max_examples=150)
@given(QUESTIONS, st.lists(LEAVING, max_size=4))
def test_hand_overs_at_any_clean_point_change_nothing(question: Question, legs: list[Leg]) -> None:
    check(question, legs)


@settings(max_examples=150)
@given(QUESTIONS, st.lists(st.one_of(LEAVING, LOST), max_size=4))
@example(Question([WORD_IDS[3]], 40, wants_usage=True), [Leg([1], [1], lost_at=7_000)])
def test_losses_at_any_byte_change_nothing(question: Question, legs: list[Leg]) -> None:
    check(question, legs)


@settings(max_examples=150)
@given(QUESTIONS, st.lists(st.one_of(LEAVING, LOST), max_size=3), st.sampled_from(LEAD_IDS))
def test_a_prompt_that_ends_inside_a_character_is_answered_as_by_one_engine(
    question: Question, legs: list[Leg], lead: int
) -> None:
    check(replace(question, prompt=[*question.prompt, lead]), legs)


@settings(max_examples=150)
@given(QUESTIONS, st.lists(st.one_of(LEAVING, LOST), max_size=3), ANY_IDS)
def test_a_prompt_of_any_bytes_is_answered_as_by_one_engine(
    question: Question, legs: list[Leg], prompt: list[int]
) -> None:
    check(replace(question, prompt=prompt), legs)
