"""What a connection makes of the bytes that it is sent, and what must be true of it."""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

from cascade_router import limits
from cascade_router.http1 import Request
from tests.router.http.wire import Recorder, Talk, cut, talk

MAX_BODY: Final = 64
SMALL: Final = {
    "MAX_HEAD_BYTES": 300,
    "MAX_HEADERS": 8,
    "MAX_TARGET_BYTES": 100,
    "MAX_CHUNK_LINE_BYTES": 24,
    "MAX_CHUNK_EXTENSION_BYTES": 16,
    "MAX_TRAILER_BYTES": 30,
}
"""Limits that short inputs reach."""


@contextmanager
def small_limits() -> Iterator[None]:
    """Run with them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(limits, name, value)
        yield


@dataclass(frozen=True)
class Outcome:
    """Everything that can be seen of a conversation from outside."""

    requests: tuple[Request, ...]
    refusals: tuple[int, ...]
    sent: bytes
    over: bool


def outcome(
    wire: bytes, cuts: Iterable[int] = (), *, max_body_bytes: int = MAX_BODY, late: bool = False
) -> Outcome:
    """The outcome of `wire` in pieces; of a `late` one each answer comes after the read that has
    brought its request, and maybe others. Fails where memory grows beyond the limits, an answer is
    missing or doubled, or the connection would stay open for ever."""
    seen = talk(service=Recorder(hold=late), max_body_bytes=max_body_bytes)
    ahead = 0
    for piece in cut(wire, cuts):
        seen.say(piece)
        ahead = max(ahead, seen.connection._reader.waiting) if late else 0
        _check_memory(seen, ahead + len(piece))
        while seen.service.waiting:
            seen.service.waiting.pop().respond(
                200, b"%d" % len(seen.service.requests[-1].body), kind="text/plain"
            )
    found = Outcome(
        tuple(seen.service.requests), tuple(seen.service.refusals), seen.sent, seen.wire.over
    )
    _check_answers(seen)
    _check_end(seen)
    return found


def _check_memory(seen: Talk, piece: int) -> None:
    waiting = seen.connection._reader.waiting
    assert waiting <= limits.MAX_HEAD_BYTES + piece, "what is kept of a head is limited"
    assert seen.book.unread_bytes <= seen.book.max_body_bytes, "and so is a body"


def _check_answers(seen: Talk) -> None:
    final = [status for status in seen.statuses if status >= 200]
    answered = len(seen.service.requests) + len(seen.service.refusals)
    nameless = len(final) - answered
    assert nameless in (0, 1), "each request has one answer"
    assert not nameless or (final[-1] >= 400 and seen.wire.over), "so has what is no request"
    assert len(seen.service.heads) - answered in (0, 1), "the last one may not be complete"
    assert seen.connection.busy is False


def _check_end(seen: Talk) -> None:
    """Whatever has come, a client that says no more is answered or closed in the end."""
    for _ in range(4):
        seen.wait(limits.KEEP_ALIVE_SECONDS + limits.CLIENT_STALL_SECONDS)
    assert seen.wire.closed
    assert (100, 100) not in itertools.pairwise(seen.statuses), "continue is said once"
    seen.connection.connection_lost(None)
    assert (seen.book.unread_bytes, len(seen.book.open)) == (0, 0)
