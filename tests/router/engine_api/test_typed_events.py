"""Streams of typed events: what is counted in them, and where they end."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_router import sse
from cascade_router.answers import PinnedStream, WholeAnswer
from cascade_router.errors import UNAVAILABLE, UPSTREAM, Dialect, RequestError, error_events
from e2e.engine_simulator.messages_api import MessagesWriter
from e2e.engine_simulator.responses_api import ResponsesWriter
from e2e.engine_simulator.typed_answer import End, Writer

TRICKY = ['"usage":{"input_tokens":9,"output_tokens":9}', "event: message_stop", "\n\n", "}{"]
END = End("length", None, prompt_tokens=30, cached_tokens=10, tokens=5)
TEXTS = ["a", *TRICKY]


def writers() -> list[Writer]:
    """One of each API."""
    return [ResponsesWriter({}, "m", 5), MessagesWriter("id", "m", 30)]


def stream(writer: Writer, texts: list[str]) -> bytes:
    """All events of an answer."""
    return writer.accepted() + b"".join(map(writer.text, texts)) + writer.ended(END)


@pytest.mark.parametrize("writer", writers(), ids=["Responses", "Messages"])
@given(cuts=st.lists(st.integers(0, 4000), max_size=8))
def test_a_stream_is_passed_on_counted_and_complete_whatever_the_reads(
    writer: Writer, cuts: list[int]
) -> None:
    fresh = type(writer)({}, "m", 5) if isinstance(writer, ResponsesWriter) else writers()[1]
    wire = stream(fresh, TEXTS)
    answer = PinnedStream(1 << 20)
    places = sorted({0, *(cut for cut in cuts if cut < len(wire)), len(wire)})
    passed = b""
    for start, end in pairwise(places):
        assert not answer.complete
        passed += answer.feed(wire[start:end])
    assert passed == wire
    assert (answer.complete, answer.prompt_tokens, answer.tokens) == (True, 30, 5)


@pytest.mark.parametrize("writer", writers(), ids=["Responses", "Messages"])
def test_tokens_are_counted_before_the_usage_tells_them(writer: Writer) -> None:
    wire = writer.accepted() + b"".join(map(writer.text, TEXTS))
    answer = PinnedStream(1 << 20)
    answer.feed(wire)
    assert answer.tokens == len(TEXTS) == sse.count_tokens(wire)
    assert (answer.complete, answer.prompt_tokens) == (False, None)
    assert sse.count_tokens(writer.ended(END)) == 0


@pytest.mark.parametrize("writer", writers(), ids=["Responses", "Messages"])
def test_the_usage_of_an_unstreamed_answer_is_found(writer: Writer) -> None:
    body = json.dumps(writer.whole("".join(TRICKY), END)).encode()
    answer = WholeAnswer()
    assert answer.feed(body) == body
    answer.close()
    assert (answer.prompt_tokens, answer.tokens) == (30, 5)


@pytest.mark.parametrize(
    "name",
    ["response.completed", "response.incomplete", "response.failed", "message_stop", "error"],
)
def test_these_events_end_a_stream(name: str) -> None:
    answer = PinnedStream(1000)
    answer.feed(b"event: " + name.encode() + b'\ndata: {"type":"x"}\n\n')
    assert answer.complete


def test_an_event_that_only_looks_like_the_last_one_does_not() -> None:
    answer = PinnedStream(1000)
    answer.feed(b'event: content_block_delta\ndata: {"event":"event: message_stop"}\n\n')
    answer.feed(b'data: {"type":"message_stop"}\n\n')
    assert not answer.complete


@pytest.mark.parametrize(
    ("kind", "dialect", "wanted"),
    [
        (UPSTREAM, Dialect.MESSAGES, {"type": "error", "error": {"type": "api_error"}}),
        (UNAVAILABLE, Dialect.MESSAGES, {"type": "error", "error": {"type": "overloaded_error"}}),
        (UPSTREAM, Dialect.RESPONSES, {"type": "error", "error": {"type": UPSTREAM}}),
        (UPSTREAM, Dialect.OPENAI, {"error": {"type": UPSTREAM}}),
    ],
)
def test_an_error_in_a_stream_has_the_shape_of_its_api(
    kind: str, dialect: Dialect, wanted: dict[str, Any]
) -> None:
    events = error_events(502, kind, "broken", dialect)
    typed = dialect is not Dialect.OPENAI
    assert events.startswith(b"event: error\ndata: {" if typed else b"data: {")
    assert events.endswith(b"\n\n" if typed else b"data: [DONE]\n\n")
    data = json.loads(events.partition(b"data: ")[2].partition(b"\n")[0])
    assert data["error"]["message"] == "broken"
    assert data.get("type") == wanted.get("type")
    assert data["error"]["type"] == wanted["error"]["type"]


def test_an_error_of_its_own_has_headers_beside_the_type() -> None:
    error = RequestError(405, UPSTREAM, "no", retry_after=2, extra=[("allow", "POST")])
    assert error.headers() == [("retry-after", "2"), ("allow", "POST")]
