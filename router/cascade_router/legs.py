"""One leg: one request to one instance, whose answer becomes part of the client's.

A leg only reports what happened; what follows from it is decided by its session.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from cascade_policy.instance_book import Stay
from cascade_router import limits, sse
from cascade_router.answers import Answer
from cascade_router.dispatch import Placement
from cascade_router.line import Line
from cascade_router.record import LegOutcome
from cascade_router.server import ClientConnection
from cascade_router.sse import EventTooLarge

_NEVER = float("inf")
_TAIL_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Ended:
    """The answer is complete."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The place to leave was reached, and the leg is closed."""


@dataclass(frozen=True, slots=True)
class Due:
    """The sequence has grown to where it is to be reviewed; the leg goes on."""


@dataclass(frozen=True, slots=True)
class Joinable:
    """The first text after a seam is here; the leg is paused until it is joined."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection, the engine, or its patience broke."""

    reason: str
    is_instance_at_fault: bool = True
    """False where every instance would do the same: nobody is banned, nobody else is asked."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The instance answered with an error."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Warmed:
    """The target of a hand-over has computed the sequence, or declined to; the leg goes on."""

    problem: str | None = None


@dataclass(frozen=True, slots=True)
class AskedToLeave:
    """The instance runs out of memory, or leaves; the leg goes on until the sequence has left."""

    going: bool
    """Whether the instance leaves: then it has time, and the sequence may stay for want of another
    place."""


Over = Ended | Cut | Refused | Lost
"""What ends a leg."""
Report = Over | Due | Joinable | Warmed | AskedToLeave


def outcome_of(report: Over | None) -> LegOutcome:
    """How a leg ended, by its last report; without one it was given up."""
    match report:
        case Ended():
            return LegOutcome.COMPLETED
        case Cut():
            return LegOutcome.LEFT
        case Refused():
            return LegOutcome.REFUSED
        case Lost():
            return LegOutcome.LOST
        case None:
            return LegOutcome.CANCELLED


class Listener(Protocol):
    """What a session wants to know while a leg goes on."""

    def opened(self, headers: dict[str, str]) -> None:
        """The instance accepted, and the first piece of its answer is here for the client."""

    def first_tokens(self, now: float) -> None:
        """The first tokens of the leg came."""

    def computed(self, cached_tokens: int) -> None:
        """The engine says how many tokens of the prompt it held."""


class Leg:
    """Relays one instance's answer to the client."""

    __slots__ = (
        "_active_at",
        "_answer",
        "_booking",
        "_client",
        "_ended",
        "_error",
        "_feed",
        "_headers",
        "_line",
        "_listener",
        "_look_at",
        "_loop",
        "_opened",
        "_reports",
        "_review_at",
        "_started_with",
        "_status",
        "_stay",
        "_tail",
        "_tail_seen",
        "_waiter",
        "_write",
        "has_tokens",
        "last_at",
        "placement",
    )

    def __init__(
        self,
        placement: Placement,
        answer: Answer,
        client: ClientConnection,
        listener: Listener,
        stay: Stay | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.placement = placement
        self.has_tokens = False
        self.last_at: float | None = None
        """When the last tokens came, by the loop's clock; known when the leg is over."""
        self._answer = answer
        self._feed = answer.feed
        self._client = client
        self._write = client.body
        self._listener = listener
        self._stay = stay
        self._booking = None if stay is None else stay.booking
        if stay is not None:
            stay.leave_please = self.leave_please
        self._loop = loop
        self._line: Line | None = None
        self._reports: deque[Report] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._opened = False
        self._error = b""
        # The end of the newest read: it tells of the cache, and that it is another one, of life.
        self._tail = self._tail_seen = b""
        self._ended: str | None = None
        self._started_with = answer.tokens
        self._review_at = _NEVER
        # The number of tokens at which something has to be done: at the first one, at reviews.
        self._look_at: float = answer.tokens + 1
        self._active_at = loop.time()

    async def send(self, line: Line) -> None:
        """Start. Raises Unreachable; the leg is closed then."""
        self._line = line
        self._active_at = self._loop.time()
        try:
            await line.send()
        except BaseException:
            self.close()
            raise
        if self._client.slow:
            line.pause()

    async def report(self) -> Report:
        """The next thing that happens."""
        while not self._reports:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._reports.popleft()

    def tell(self, report: Report) -> None:
        """Something happened to this leg elsewhere."""
        self._reports.append(report)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def review_at(self, tokens: float) -> None:
        """When the answer has so many tokens, a review is due."""
        self._review_at = tokens
        if self.has_tokens:
            self._look_at = tokens

    def close(self) -> None:
        """Stop: the engine ends its work at once. Harmless when it is over."""
        # Let go of it: a leg and its line that know each other wait for the garbage collector.
        line, self._line = self._line, None
        if line is not None:
            line.abort()
        self._release()

    def pause(self) -> None:
        """Take no more from the instance for now."""
        if self._line is not None:
            self._line.pause()
        if self._booking is not None:
            self._booking.paused()

    def resume(self) -> None:
        """Go on; silence counts from here."""
        self._active_at = self._loop.time()
        if self._line is not None and not self._answer.joinable:
            self._line.resume()

    def joined(self, out: bytes) -> None:
        """The seam was joined; `out` is what the client gets for it."""
        if out:
            self._write(out)
        self._look()
        if self._ended is not None:
            self._end(self._ended)
        elif not self._client.slow:
            self.resume()

    def check_silence(self, now: float, before_first: float, between: float) -> None:
        """Give the instance up if nothing came for too long (seconds). Looks once a second, and so
        knows to a second when something came last."""
        if self._line is None or self._client.slow:
            return
        if self._tail is not self._tail_seen:
            self._tail_seen = self._tail
            self._active_at = now
        limit = between if self.has_tokens else before_first
        if now - self._active_at > limit:
            self._fail(f"nothing came for {limit:.0f} s")

    # Sink of the line ------------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._status, self._headers = status, headers
        self._feed = self._feed_first if status == 200 else self._keep_error

    def body(self, data: bytes) -> None:
        """One read of the answer: this runs for every token of every stream."""
        answer = self._answer
        try:
            out = self._feed(data)
        except EventTooLarge:
            self._fail("an event is larger than allowed", is_instance_at_fault=False)
            return
        if out:
            self._write(out)
        if answer.tokens >= self._look_at or answer.noteworthy:
            self._look()
        elif self._booking is not None:
            self._booking.grown = answer.tokens - self._started_with
        # Not all of it: thousands of streams would keep what a burst brought.
        self._tail = data if len(data) <= _TAIL_BYTES else data[-_TAIL_BYTES:]

    def leave_please(self, going: bool) -> None:
        self.tell(AskedToLeave(going))

    def end(self) -> None:
        answer = self._answer
        if self._status != 200:
            self._release()
            self.tell(Refused(self._status, self._headers, self._error))
            return
        cached = sse.cached_tokens_of(self._tail)
        if cached is not None:
            self._listener.computed(cached)
            if self._stay is not None:
                self._stay.computed(cached)
        rest = answer.close()
        if answer.complete and not self._opened:
            self._open()  # An answer without a body.
        self._write(rest)
        self._release()
        self._end("the answer ended too early")

    def lost(self, reason: str) -> None:
        self._release()
        self._end(reason)

    # Inner life ------------------------------------------------------------------------------

    def _look(self) -> None:
        """Tokens have come to a number that was waited for, or something else has happened."""
        answer = self._answer
        if self._booking is not None:
            self._booking.grown = answer.tokens - self._started_with
        if not self.has_tokens and answer.tokens > self._started_with:
            self._first_tokens()
        if answer.cut:
            self.close()
            self.tell(Cut())
        elif answer.lost is not None:
            self._fail(answer.lost)
        elif answer.joinable:
            self.pause()
            self.tell(Joinable())
        elif answer.tokens >= self._look_at:
            self._look_at = _NEVER
            self.tell(Due())

    def _feed_first(self, data: bytes) -> bytes:
        """The answer until there is something for the client. Its head waits for that: until then
        another instance can still give the answer, and its name."""
        out = self._answer.feed(data)
        if out:
            self._open()
        return out

    def _open(self) -> None:
        self._opened = True
        self._feed = self._answer.feed
        self._listener.opened(self._headers)

    def _keep_error(self, data: bytes) -> bytes:
        """The body of an answer that is an error, and not for the client."""
        if len(self._error) < limits.MAX_ERROR_BYTES:
            self._error += data
        return b""

    def _first_tokens(self) -> None:
        now = self._loop.time()
        self._look_at = self._review_at
        if self._booking is not None:
            self._booking.first_token(now)
        self.has_tokens = True
        self._listener.first_tokens(now)

    def _end(self, reason: str) -> None:
        """Nothing more comes, for `reason`; what is held for a seam is still to be looked at."""
        if self._answer.joinable:
            self._ended = reason
        else:
            self.tell(Ended() if self._answer.complete else Lost(reason))

    def _fail(self, reason: str, *, is_instance_at_fault: bool = True) -> None:
        self.close()
        # What breaks after the end of an answer takes nothing from it.
        self.tell(Ended() if self._answer.complete else Lost(reason, is_instance_at_fault))

    def _release(self) -> None:
        now = self._loop.time()
        if self.has_tokens and self.last_at is None:
            self.last_at = now
        self._line = None
        if self._stay is not None:
            self._stay.leave(now)
