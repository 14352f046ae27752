"""The readers of an engine's stream under random input, beside plain ones."""

from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_router.sse import EventSplitter, EventTooLarge
from cascade_router.upstream import Upstream
from tests.fuzz.requests import chunked, cuts, mutated
from tests.router.http.wire import Wire, cut

EXAMPLES: Final = 500
LIMIT: Final = 1 << 20
PIECES: Final = (
    b"data: {}", b"data: [DONE]", b"event: error", b": comment", b"\n", b"\n", b"\n\n", b"\r\n",
    b"\r", b"\r\n\r\n", b"\n\n\n", b"x", b'"\\n\\n"', "\N{LINE SEPARATOR}".encode(), b"\x85", b"",
)  # fmt: skip
STREAMS: Final = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4))).map(b"".join)
HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


# Events -------------------------------------------------------------------------------------------


def plain_events(stream: bytes) -> tuple[list[bytes], bytes]:
    """Events are what empty lines end; those that hold nothing are none. The events, and what is
    left."""
    *whole, rest = stream.replace(b"\r", b"").split(b"\n\n")
    texts = [text.lstrip(b"\n") for text in whole]
    return [text + b"\n\n" for text in texts if text], rest.lstrip(b"\n")


def split_events(pieces: list[bytes], limit: int = LIMIT) -> tuple[list[bytes], bytes]:
    """The same by the splitter of the router."""
    splitter = EventSplitter(limit)
    events = [event for piece in pieces for event in splitter.feed(piece)]
    return events, splitter.rest.lstrip(b"\n")


@settings(max_examples=EXAMPLES)
@given(STREAMS, st.data())
def test_events_are_the_same_for_any_cut_and_for_a_plain_reader(
    stream: bytes, data: st.DataObject
) -> None:
    pieces = list(cut(stream, data.draw(cuts(stream))))
    assert split_events(pieces) == plain_events(stream)


@settings(max_examples=EXAMPLES // 4)
@given(STREAMS, st.data(), st.integers(0, 20))
def test_an_event_is_kept_up_to_the_limit(stream: bytes, data: st.DataObject, limit: int) -> None:
    splitter = EventSplitter(limit)
    for piece in cut(stream, data.draw(cuts(stream))):
        before = len(splitter.rest)
        try:
            splitter.feed(piece)
        except EventTooLarge:
            assert before + len(piece) > limit
            return
        assert len(splitter.rest) <= limit


# Chunks -------------------------------------------------------------------------------------------


@dataclass
class Answer:
    """What an upstream connection tells of an answer."""

    status: int | None = None
    body: bytes = b""
    ended: bool = False
    broken: bool = False
    pieces: list[bytes] = field(default_factory=list)

    def head(self, status: int, headers: dict[str, str]) -> None:  # noqa: ARG002
        """Status and headers."""
        self.status = status

    def body_piece(self, data: bytes) -> None:
        """A piece."""
        assert not self.ended
        assert not self.broken
        self.pieces.append(data)
        self.body += data

    def end(self) -> None:
        """Complete."""
        self.ended = True

    def lost(self, reason: str) -> None:  # noqa: ARG002
        """Never complete."""
        self.broken = True

    def leave_please(self, going: bool) -> None:
        """Engines do not."""


class _Sink:
    """An Answer as the connection knows it."""

    def __init__(self, answer: Answer) -> None:
        self.head, self.end, self.lost = answer.head, answer.end, answer.lost
        self.body, self.leave_please = answer.body_piece, answer.leave_please


class _Loop:
    def time(self) -> float:
        return 0.0


def read_chunks(pieces: list[bytes]) -> Answer:
    """What the connection to an engine makes of these reads."""
    answer = Answer()
    loop: Any = _Loop()
    upstream, wire = Upstream(loop, lambda _upstream, _idle: None), Wire()
    upstream.connection_made(wire)
    upstream.send(b"", _Sink(answer))
    for piece in pieces:
        if not (answer.ended or answer.broken or wire.closed):
            upstream.data_received(piece)
    return answer


def plain_chunks(wire: bytes) -> bytes | None:
    """The body that `wire` frames, trailers left out; None where it is not whole and right."""
    body = b""
    while True:
        line, found, wire = wire.partition(b"\r\n")
        digits = line.partition(b";")[0]
        if not found or not digits or digits.strip(b"0123456789abcdefABCDEF"):
            return None
        size = int(digits, 16)
        if size == 0:
            return body
        if wire[size : size + 2] != b"\r\n":
            return None
        body, wire = body + wire[:size], wire[size + 2 :]


@st.composite
def event_chunks(draw: st.DrawFn) -> bytes:
    """Chunks as engines write them: one event each, or more, or a part, of text that may look like
    what frames it."""
    event = st.sampled_from(
        (b"data: {}\n\n", b"0\r\n\r\n", b"\r\n", b"5\r\nhello\r\n", b"a", b"1\r\na\r\n0\r\n\r\n")
    )
    parts = draw(st.lists(st.one_of(event, st.binary(min_size=1, max_size=30)), max_size=6))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def chunk_reads(draw: st.DrawFn | Any, wire: bytes) -> list[bytes]:
    """`wire` in reads: at the ends of chunks, mostly, as they come from an engine."""
    ends = [at + 2 for at in range(len(wire) - 1) if wire[at : at + 2] == b"\r\n"]
    places = st.one_of(st.just(ends), st.lists(st.sampled_from(ends), max_size=8)) if ends else (
        st.just([])
    )  # fmt: skip
    return list(cut(HEAD + wire, [len(HEAD), *(len(HEAD) + at for at in draw(places))]))


@settings(max_examples=EXAMPLES)
@given(event_chunks(), st.data())
def test_chunks_of_an_engine_hold_the_same_for_any_reads(wire: bytes, data: st.DataObject) -> None:
    want = plain_chunks(wire)
    for pieces in (chunk_reads(data.draw, wire), list(cut(HEAD + wire, data.draw(cuts(wire))))):
        got = read_chunks(pieces)
        assert (got.status, got.ended, got.broken) == (200, True, False)
        assert got.body == want
        assert b"" not in got.pieces


@settings(max_examples=EXAMPLES)
@given(st.one_of(event_chunks(), chunked()).flatmap(mutated), st.data())
def test_broken_chunks_of_an_engine_are_never_taken_for_others(
    wire: bytes, data: st.DataObject
) -> None:
    """However they are cut, the answer ends the same way, and what was delivered of it agrees."""
    one, other = read_chunks([HEAD, wire]), read_chunks(chunk_reads(data.draw, wire))
    assert (one.ended, one.broken) == (other.ended, other.broken)
    assert one.body.startswith(other.body) or other.body.startswith(one.body)
    if one.ended:
        assert one.body == other.body
        want = plain_chunks(wire)
        assert want is None or one.body == want


@pytest.mark.parametrize("size", ["+5", "5_", " 5", "0x5", "-5", "５"])
def test_a_size_that_is_no_number_is_no_chunk(size: str) -> None:
    piece = size.encode() + b"\r\nhello\r\n"
    got = read_chunks([HEAD, b"1\r\na\r\n", piece])
    assert got.body == b"a"
