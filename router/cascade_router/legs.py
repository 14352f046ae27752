"""One leg: one request to one instance, whose answer becomes part of the client's.

A leg only reports what happened; what follows from it is decided by its session.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from cascade_policy.load import Booking
from cascade_router import limits
from cascade_router.answers import Answer
from cascade_router.calls import Call
from cascade_router.dispatch import Placement
from cascade_router.server import ClientConnection
from cascade_router.sse import EventTooLarge


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


Report = Ended | Cut | Due | Joinable | Lost | Refused


class Listener(Protocol):
    """What a session wants to know while a leg goes on."""

    def opened(self, headers: dict[str, str]) -> None:
        """The instance accepted; its answer follows."""

    def first_tokens(self, now: float) -> None:
        """The first tokens of the leg came."""


class Leg:
    """Relays one instance's answer to the client."""

    def __init__(
        self,
        placement: Placement,
        answer: Answer,
        client: ClientConnection,
        listener: Listener,
        booking: Booking | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.placement = placement
        self.review_at: float = float("inf")
        """Tokens of the answer at which a review is due."""
        self.has_tokens = False
        self.last_at: float | None = None
        """When the last tokens came, by the loop's clock."""
        self._answer = answer
        self._client = client
        self._listener = listener
        self._booking = booking
        self._loop = loop
        self._call: Call | None = None
        self._reports: deque[Report] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: dict[str, str] = {}
        self._error = b""
        self._ended: str | None = None

    async def send(self, call: Call) -> None:
        """Start. Raises Unreachable; the leg is closed then."""
        self._call = call
        try:
            await call.send()
        except BaseException:
            self.close()
            raise
        if self._client.slow:
            call.pause()

    async def report(self) -> Report:
        """The next thing that happens."""
        while not self._reports:
            self._waiter = self._loop.create_future()
            await self._waiter
        return self._reports.popleft()

    def close(self) -> None:
        """Stop: the engine ends its work at once. Harmless when it is over."""
        if self._call is not None:
            self._call.abort()
        self._release()

    def pause(self) -> None:
        """Take no more from the instance for now."""
        if self._call is not None:
            self._call.pause()

    def resume(self) -> None:
        """Go on."""
        if self._call is not None and not self._answer_waits():
            self._call.resume()

    def joined(self, out: bytes, tokens: int) -> None:
        """The seam was joined; `out` is what the client gets for it, `tokens` what it holds."""
        if tokens > 0:
            self._count(tokens)
        self._emit(out)
        if self._ended is not None:
            self._end(self._ended)
        elif not self._client.slow:
            self.resume()

    def check_silence(self, now: float, before_first: float, between: float) -> None:
        """Give the instance up if nothing came for too long (seconds)."""
        call = self._call
        if call is None or call.over or self._client.slow:
            return
        limit = between if self.has_tokens else before_first
        if now - call.seen_at > limit:
            self._fail(f"nothing came for {limit:.0f} s")

    # Sink of the call ------------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._status, self._headers = status, headers
        if status == 200:
            self._listener.opened(headers)

    def data(self, raw: bytes, body: bytes) -> None:  # noqa: ARG002
        if self._status != 200:
            if len(self._error) < limits.MAX_ERROR_BYTES:
                self._error += body
            return
        if not body:
            return
        answer = self._answer
        before = answer.tokens
        try:
            out = answer.feed(body)
        except EventTooLarge:
            self._fail("an event is larger than allowed", is_instance_at_fault=False)
            return
        came = answer.tokens - before
        if came > 0:
            self._count(came)
        self._emit(out)

    def end(self, keep_alive: bool) -> None:  # noqa: ARG002
        self._release()
        if self._status != 200:
            self._put(Refused(self._status, self._headers, self._error))
            return
        self._client.body(self._answer.close())
        self._end("the answer ended too early")

    def lost(self, reason: str) -> None:
        self._release()
        self._end(reason)

    # Inner life ------------------------------------------------------------------------------

    def _end(self, reason: str) -> None:
        """Nothing more comes, for `reason`; what is held for a seam is still to be looked at."""
        if self._answer_waits():
            self._ended = reason
        else:
            self._put(Ended() if self._answer.complete else Lost(reason))

    def _count(self, tokens: int) -> None:
        self.last_at = now = self._loop.time()
        booking = self._booking
        if not self.has_tokens:
            if booking is not None:
                booking.first_token(now)
            self._listener.first_tokens(now)
            self.has_tokens = True
        if booking is not None:
            booking.token(tokens)

    def _emit(self, out: bytes) -> None:
        answer = self._answer
        if out:
            self._client.body(out)
        if answer.cut:
            self.close()
            self._put(Cut())
        elif answer.lost is not None:
            self._fail(answer.lost)
        elif answer.tokens >= self.review_at:
            self.review_at = float("inf")
            self._put(Due())
        elif not out and self._answer_waits():
            self.pause()
            self._put(Joinable())

    def _answer_waits(self) -> bool:
        return self._answer.joinable

    def _fail(self, reason: str, *, is_instance_at_fault: bool = True) -> None:
        self.close()
        self._put(Lost(reason, is_instance_at_fault))

    def _release(self) -> None:
        if self._booking is not None:
            self._booking.finish(self._loop.time())

    def _put(self, report: Report) -> None:
        self._reports.append(report)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
