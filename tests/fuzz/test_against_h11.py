"""The reader of requests beside h11, a reader of other people: what ours takes, h11 takes alike.

Ours may refuse more. Where the two differ on purpose, `DIFFERENCES` says how and why.
"""

from dataclasses import dataclass
from typing import Final

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_router.request_head import HOP_BY_HOP
from tests.fuzz.outcome import outcome
from tests.fuzz.requests import conversation, cuts

EXAMPLES: Final = 500
LARGEST_HEAD: Final = 1 << 20
LARGEST_BODY: Final = 1000
REFUSED_PATHS: Final = ("/secret",)
EMPTY_LINE: Final = b"\r\n"
LISTS: Final = ("connection", "expect", "tracestate", "upgrade")
GET: Final = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST: Final = b"POST / HTTP/1.1\r\nhost: a\r\n"
CHUNKS: Final = b"transfer-encoding: chunked\r\n\r\n"


class Incomplete(Exception):
    """More would have to come."""


@dataclass(frozen=True)
class Seen:
    """One request, as a reader of requests understood it."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


def ours(wire: bytes, places: list[int]) -> list[Seen]:
    """The requests that the router would serve."""
    return [
        Seen(one.method, one.path, tuple(sorted(one.headers.items())), one.body)
        for one in outcome(wire, places, max_body_bytes=LARGEST_BODY).requests
    ]


def theirs(wire: bytes) -> list[Seen]:
    """The requests that a server on h11 would serve, and refuse none by its path."""
    found: list[Seen] = []
    try:
        while wire:
            # The one thing that ours takes and h11 does not, see DIFFERENCES.
            request, wire = _first(wire.removeprefix(EMPTY_LINE))
            found.append(request)
    except (h11.RemoteProtocolError, Incomplete):
        """What came before it was served."""
    return found


def _first(wire: bytes) -> tuple[Seen, bytes]:
    """The first request, and what follows it; nothing, where the connection ends with it."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
    connection.receive_data(wire)
    request, body = connection.next_event(), b""
    if not isinstance(request, h11.Request):
        raise Incomplete
    while not isinstance(event := connection.next_event(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            raise Incomplete
        body += bytes(event.data)
    # The router keeps no connection of HTTP/1.0, whatever its client would like.
    kept = connection.our_state is not h11.MUST_CLOSE and request.http_version != b"1.0"
    rest = connection.trailing_data[0] if kept and _may_stay(request) else b""
    return _as_the_router_sees_it(request, body), rest


def _may_stay(request: h11.Request) -> bool:
    values = [value for name, value in request.headers if name == b"connection"]
    return b"close" not in {one.strip() for one in b",".join(values).lower().split(b",")}


def _as_the_router_sees_it(request: h11.Request, body: bytes) -> Seen:
    """Of doubled headers the first or a list, none for the next hop only, and of a target the
    path."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name not in headers:
            headers[name] = value
        elif name in LISTS:
            headers[name] += f", {value}"
    named = {one.strip().lower() for one in headers.get("connection", "").split(",")}
    kept = {name: value for name, value in headers.items() if name not in named | HOP_BY_HOP}
    target = request.target.decode("latin-1").partition("?")[0]
    if not target.startswith("/"):
        target = "/" + target.partition("://")[2].partition("/")[2]
    return Seen(request.method.decode("latin-1"), target, tuple(sorted(kept.items())), body)


@settings(max_examples=EXAMPLES)
@given(st.data())
def test_what_ours_takes_h11_takes_alike(data: st.DataObject) -> None:
    wire = data.draw(conversation())
    taken = ours(wire, data.draw(cuts(wire)))
    served = [one for one in theirs(wire) if one.path not in REFUSED_PATHS]
    assert taken == served[: len(taken)]


def test_most_of_what_is_tried_is_taken() -> None:
    """Otherwise the comparison would say little."""
    counts = [0, 0]

    @settings(max_examples=100, database=None, derandomize=True)
    @given(conversation())
    def count(wire: bytes) -> None:
        counts[0] += bool(ours(wire, []))
        counts[1] += bool(theirs(wire))

    count()
    assert min(counts) > 30, counts


DIFFERENCES = [
    # (what, the bytes, whether ours takes them, why)
    ("an empty line before a request", b"\r\n" + GET, True,
     "RFC 9112 2.2 asks for it; some clients end a body so"),
    ("line feeds for line ends", b"GET / HTTP/1.1\nhost: a\n\n", False,
     "other readers see other lines"),
    ("a folded line", GET[:-2] + b"x: a\r\n b\r\n\r\n", False,
     "RFC 9112 5.2 lets a server refuse it; other readers see another header"),
    ("a control character in a value", GET[:-2] + b"x: a\x01b\r\n\r\n", False,
     "it ends a line or a string somewhere else, or in a terminal"),
    ("two headers that say who asks", GET[:-2] + b"authorization: a\r\nauthorization: b\r\n\r\n",
     False, "a proxy may have judged the other one"),
    ("a length said twice", POST + b"content-length: 1\r\ncontent-length: 1\r\n\r\na", False,
     "RFC 9112 6.3 lets a server refuse it"),
    ("a list of equal lengths", POST + b"content-length: 1, 1\r\n\r\na", False, "the same"),
    ("a length and chunks", POST + b"content-length: 3\r\n" + CHUNKS + b"0\r\n\r\n", False,
     "RFC 9112 6.1: it is how requests are smuggled"),
    ("chunks of HTTP/1.0", b"POST / HTTP/1.0\r\n" + CHUNKS + b"0\r\n\r\n", False,
     "RFC 9112 6.1: its framing is faulty"),
    ("a space behind the size of a chunk", POST + CHUNKS + b"1 \r\na\r\n0\r\n\r\n", False,
     "RFC 9112 7.1 has no place for it"),
    ("a return in an extension", POST + CHUNKS + b"1;a\rb\r\na\r\n0\r\n\r\n", False,
     "other readers end the line there"),
    ("a size of seventeen digits", POST + CHUNKS + b"0" * 16 + b"1\r\na\r\n0\r\n\r\n", False,
     "sixteen are 64 bits"),
    ("a control character in a trailer", POST + CHUNKS + b"0\r\nx: \x01\r\n\r\n", False,
     "trailers are judged like headers"),
    ("HTTP/1.2", GET.replace(b"1.1", b"1.2"), False, "there is none"),
    ("a method that nobody knows", GET.replace(b"GET", b"BREW"), False,
     "it would be repeated in the access log"),
    ("a target that is no path", GET.replace(b"/ ", b"h "), False, "RFC 9112 3.2"),
    ("a fragment in a target", GET.replace(b"/ ", b"/#a "), False, "RFC 9112 3.2"),
    ("a tunnel", GET.replace(b"GET /", b"CONNECT h:1"), False, "this is no proxy"),
    ("a host that is none", GET.replace(b"host: a", b"host: a/b"), False, "RFC 9112 3.2"),
    ("another expectation", GET[:-2] + b"expect: gold\r\n\r\n", False, "RFC 9110 10.1.1"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wire", "takes", "why"), [pytest.param(*case[1:], id=case[0]) for case in DIFFERENCES]
)
def test_the_two_differ_where_there_is_a_reason(wire: bytes, takes: bool, why: str) -> None:
    assert why
    assert bool(ours(wire, [])) is takes
    # `theirs` takes one empty line away itself.
    first = theirs(EMPTY_LINE + wire if takes else wire)
    assert bool(first) is not takes
