"""What the suite reads of an answer, and how it words a difference."""

import json
from typing import Any

import pytest

from e2e.continuity_suite.answer import Answer, events_of, read_stream, read_whole
from e2e.continuity_suite.differences import first_difference
from e2e.continuity_suite.wire import Received

HEAD = {"content-type": "text/event-stream"}
DONE = b"data: [DONE]\n\n"


def chunk(text: str | None = None, **fields: Any) -> bytes:
    """A completions chunk."""
    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": None, "logprobs": None}
    top = {name: fields.pop(name) for name in ("id", "usage", "choices") if name in fields}
    data = {"id": "a", "object": "o", "created": 1, "model": "m", "choices": [choice | fields]}
    return b"data: " + json.dumps(data | top, ensure_ascii=False).encode() + b"\n\n"


def answer_of(*events: bytes, lost: str | None = None) -> Answer:
    received = Received(200, HEAD, lost)
    received.add(b"".join(events))
    return read_stream(received)


GOOD = (chunk("a", token_ids=[1]), chunk("b", token_ids=[2], finish_reason="length"), DONE)


def test_a_stream_is_joined() -> None:
    answer = answer_of(*GOOD)
    assert (answer.faults, answer.choices[0].text, answer.choices[0].ids) == ([], "ab", [1, 2])


def test_line_ends_of_unicode_end_no_event() -> None:
    text = "a\u2028b\u0085c\x0b"
    assert answer_of(chunk(text), *GOOD[1:]).choices[0].text == text + "b"


def test_comments_and_crlf_are_read() -> None:
    body = b": hello\r\n\r\ndata: {}\r\n\r\n" + DONE
    assert events_of(body) == [b"{}", b"[DONE]"]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        (GOOD[:2], "without [DONE]"),
        ((GOOD[0], DONE), "has no end"),
        ((*GOOD[:2], chunk("c"), DONE), "follows the end"),
        ((GOOD[0], chunk("b", id="b", finish_reason="stop"), DONE), "another id: 'b' after 'a'"),
        ((*GOOD, chunk("c")), "more after [DONE]"),
        ((chunk("a", prompt_token_ids=[1]), chunk("b", prompt_token_ids=[1]), *GOOD[1:]),
         "the prompt's ids once more"),
        ((*GOOD[:2], *[chunk(choices=[], usage={"prompt_tokens": 1})] * 2, DONE),
         "the usage once more"),
        ((b"data: {\n\n", *GOOD), "not JSON"),
    ],
)  # fmt: skip
def test_breaches_of_form_are_told(events: tuple[bytes, ...], words: str) -> None:
    assert words in " ".join(answer_of(*events).faults)


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ((chunk("a", token_ids=[1]), chunk("c", token_ids=[3], finish_reason="length"), DONE),
         "token 1: expected 2, got 3"),
        ((chunk("a", token_ids=[1], finish_reason="length"), DONE),
         "token 1: expected 2, got the end"),
        ((chunk("東", token_ids=[1]), chunk("b", token_ids=[2], finish_reason="length"), DONE),
         r"character 0: expected 'ab', got '\u6771b'"),
        ((GOOD[0], chunk("b", token_ids=[2], finish_reason="stop"), DONE),
         "finish_reason: expected ['length'], got ['stop']"),
        ((*GOOD[:2], chunk(choices=[], usage={"prompt_tokens": 1}), DONE), "usage: expected None"),
        ((GOOD[0], b'data: {"error":{"message":"gone"}}\n\n', DONE), "(gone)"),
    ],
)  # fmt: skip
def test_the_first_difference_is_told(events: tuple[bytes, ...], words: str) -> None:
    assert words in (first_difference(answer_of(*GOOD), answer_of(*events)) or "")


def test_equal_answers_have_no_difference_however_they_are_cut() -> None:
    whole = (chunk("ab", token_ids=[1, 2], finish_reason="length"), DONE)
    assert first_difference(answer_of(*GOOD), answer_of(*whole)) is None


def test_a_lost_answer_says_how_far_it_came() -> None:
    found = first_difference(answer_of(*GOOD), answer_of(GOOD[0], lost="it broke"))
    assert found == "it broke, after 1 of 2 characters"


def test_a_stream_says_the_same_as_its_unstreamed_answer() -> None:
    choice = {"index": 0, "text": "ab", "finish_reason": "length", "token_ids": [1, 2]}
    received = Received(200, {})
    received.add(json.dumps({"choices": [choice]}).encode())
    assert first_difference(read_whole(received), answer_of(*GOOD)) is None


def test_a_refusal_is_compared_by_its_status() -> None:
    answers = []
    for status in (400, 400, 422):
        received = Received(status, {})
        received.add(b'{"error":{"message":"no"}}')
        answers.append(read_stream(received))
    assert first_difference(answers[0], answers[1]) is None
    assert first_difference(answers[0], answers[2]) == "status: expected 400, got 422 (no)"


def test_events_are_counted_though_they_come_in_pieces() -> None:
    received = Received()
    for piece in (b"data: a\n", b"\ndata: b\n\nda", b"ta: c\n\n"):
        received.add(piece)
    assert received.events == 3
