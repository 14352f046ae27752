"""Bodies: sized and in chunks, in any pieces, within their limits."""

import pytest

from cascade_router import limits
from cascade_router.errors import RequestError
from cascade_router.request_body import ChunkedBody
from tests.router.http.wire import cut, talk

SIZED = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
NEXT = b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"

READ = [
    ("one chunk", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    ("several chunks", b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", b"abcd"),
    ("no chunk", b"0\r\n\r\n", b""),
    ("line ends in a chunk", b"6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", b"\r\n0\r\n\r"),
    ("hex in both cases", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    ("zeros before a size", b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    ("extensions", b'3;a;b=c;d="e;f"\r\nabc\r\n0;g\r\n\r\n', b"abc"),
    ("trailers", b"3\r\nabc\r\n0\r\nx-sum: 1\r\ncontent-length: 9\r\n\r\n", b"abc"),
]
REFUSED = [
    ("a size that is none", b"x\r\n", 400),
    ("no size", b"\r\n", 400),
    ("a size with a sign", b"+3\r\nabc\r\n0\r\n\r\n", 400),
    ("a size with a prefix", b"0x3\r\nabc\r\n0\r\n\r\n", 400),
    ("a size with a line between digits", b"1_0\r\n", 400),
    ("a space before the size", b" 3\r\nabc\r\n0\r\n\r\n", 400),
    ("a space behind the size", b"3 \r\nabc\r\n0\r\n\r\n", 400),
    ("a size of many digits", b"00000000000000003\r\nabc\r\n0\r\n\r\n", 400),
    ("a line feed behind the size", b"3\nabc\r\n0\r\n\r\n", 400),
    ("a carriage return in an extension", b"3;a\rb\r\nabc\r\n0\r\n\r\n", 400),
    ("a line feed in an extension", b"3;a\nb\r\nabc\r\n0\r\n\r\n", 400),
    ("a chunk that is longer than it says", b"3\r\nabcd\r\n0\r\n\r\n", 400),
    ("a chunk that is shorter than it says", b"3\r\nab\r\n0\r\n\r\n", 400),
    ("a chunk that ends with a line feed", b"3\r\nabc\n0\r\n\r\n", 400),
    ("a chunk that ends with other bytes", b"3\r\nabcxy0\r\n\r\n", 400),
    ("a chunk that ends with a line end turned round", b"3\r\nabc\n\r0\r\n\r\n", 400),
    ("a chunk that ends with two returns", b"3\r\nabc\r\r\n0\r\n\r\n", 400),
    ("a trailer that is no header", b"0\r\nabc\r\n\r\n", 400),
    ("a trailer with a space before its colon", b"0\r\nx : a\r\n\r\n", 400),
    ("a folded trailer", b"0\r\nx: a\r\n b\r\n\r\n", 400),
    ("a line that never ends", b"3;" + b"a" * limits.MAX_CHUNK_LINE_BYTES, 400),
    ("many extensions", b"".join([b"1;" + b"a" * 1000 + b"\r\nb\r\n"] * 5), 400),
    ("many trailers", b"0\r\n" + b"".join([b"x: " + b"a" * 1000 + b"\r\n"] * 5), 400),
    ("a chunk beyond the limit", b"100001\r\n", 413),
    ("chunks beyond the limit", b"fffff\r\n" + b"x" * 0xFFFFF + b"\r\n2\r\n", 413),
    ("a chunk beyond all limits", b"ffffffffffffffff\r\n", 413),
]


@pytest.mark.parametrize(("wire", "body"), [pytest.param(*c[1:], id=c[0]) for c in READ])
def test_chunks_are_read_and_what_follows_them_is_the_next_request(
    wire: bytes, body: bytes
) -> None:
    for step in (1, 2, 3, 1000):
        data = CHUNKED + wire + NEXT
        seen = talk(*cut(data, range(step, len(data), step)))
        assert [request.body for request in seen.service.requests] == [body, b""]
        assert "x-sum" not in seen.service.requests[0].headers
        assert "content-length" not in seen.service.requests[0].headers
        assert (seen.statuses, seen.wire.over) == ([200, 200], False)
        assert seen.book.unread_bytes == 0


@pytest.mark.parametrize(("wire", "status"), [pytest.param(*c[1:], id=c[0]) for c in REFUSED])
def test_chunks_that_cannot_be_read_are_refused(wire: bytes, status: int) -> None:
    data = CHUNKED + wire
    for step in (1, 2, 3) if len(data) < 10_000 else (65_536,):
        seen = talk(*cut(data, range(step, len(data), step)), NEXT)
        assert (seen.statuses, seen.wire.over) == ([status], True)
        assert seen.sent == talk(data).sent
        assert (seen.service.refusals, seen.service.requests) == ([status], [])
        assert seen.book.unread_bytes == 0


@pytest.mark.parametrize("size", [0, 1, 2, 100, 70_000])
def test_a_sized_body_ends_where_it_says(size: int) -> None:
    data = SIZED % size + b"x" * size + NEXT
    for step in (1, 7) if size < 1000 else (65_536, len(data)):
        seen = talk(*cut(data, range(step, len(data), step)))
        assert [len(request.body) for request in seen.service.requests] == [size, 0]
        assert seen.book.unread_bytes == 0


def test_a_body_that_is_announced_too_large_is_refused_before_any_of_it_is_read() -> None:
    seen = talk(SIZED % 1001, max_body_bytes=1000)
    assert (seen.statuses, seen.wire.over) == ([413], True)
    assert seen.say(b"x" * 1001).book.unread_bytes == 0
    assert talk(SIZED % 1000 + b"x" * 1000, max_body_bytes=1000).statuses == [200]


def test_bodies_of_all_connections_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_UNREAD_BYTES", 1000)
    for head in (SIZED % 2000, CHUNKED + b"7d0\r\n"):
        seen = talk(head, b"x" * 1000)
        assert (seen.statuses, seen.book.unread_bytes) == ([], 1000)
        seen.say(b"x")
        assert seen.statuses == [503]
        assert b"retry-after: 1\r\n" in seen.sent
        assert seen.book.unread_bytes == 0


def test_a_body_of_small_chunks_is_limited_by_what_frames_it() -> None:
    body = ChunkedBody(1 << 20)
    chunk = b"1;" + b"a" * 100 + b"\r\nb\r\n"
    with pytest.raises(RequestError, match="extensions"):
        body.feed(chunk * (1 + limits.MAX_CHUNK_EXTENSION_BYTES // 100))
