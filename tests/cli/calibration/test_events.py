"""Tokens of streamed events, however they are cut into packets."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.events import Event, Splitter, read_event


def event(**fields: Any) -> bytes:
    choice = {"index": 0, "text": "a", "finish_reason": None}
    return json.dumps({"choices": [choice], **fields}).encode()


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=10),
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=60),
)
def test_events_are_whole_wherever_packets_are_cut(texts: list[str], cuts: list[int]) -> None:
    fields = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts]
    data = b"".join(b"data: " + field + b"\n\n" for field in fields) + b"data: [DONE]\n\n"
    splitter, found = Splitter(), []
    for cut in (*cuts, len(data)):
        found += splitter.feed(data[:cut])
        data = data[cut:]
    assert found == fields


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            event(usage={"completion_tokens": 7}), Event(7, 1, 0), id="the engine counts tokens"
        ),
        pytest.param(
            event(usage={"completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 32}}),
            Event(1, 1, 32), id="the engine tells what was cached",
        ),
        pytest.param(event(), Event(None, 1, 0), id="an engine without counts, one token"),
        pytest.param(
            event(choices=[{"text": "ab", "token_ids": [4, 5, 6]}]),
            Event(None, 3, 0), id="an engine that shows ids",
        ),
        pytest.param(
            event(choices=[{"text": "", "finish_reason": None}]),
            Event(None, 1, 0), id="half a character is a token",
        ),
        pytest.param(
            event(choices=[{"text": "", "finish_reason": "length"}]),
            Event(None, 0, 0), id="an event that only ends is none",
        ),
        pytest.param(
            event(choices=[], usage={"completion_tokens": 9, "prompt_tokens_details": None}),
            Event(9, 0, 0), id="usage at the end",
        ),
        pytest.param(
            b'{"error": {"message": "gone"}}', Event(None, 0, 0, "gone"), id="an error"
        ),
        pytest.param(b'{"error": "gone"}', Event(None, 0, 0, "gone"), id="an error in one word"),
    ],
)  # fmt: skip
def test_an_event_tells_its_tokens(data: bytes, expected: Event) -> None:
    assert read_event(data) == expected


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"{", b'{"choices": {}}'])
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"event|JSON|Expecting|property"):
        read_event(data)
