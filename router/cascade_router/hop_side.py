"""The target's side of a hop: what another sidecar sends is passed to this pod's engine.

Bodies go through unchanged, token ids included: only the front reads them. This side keeps the book
of the engine's load, and counts the tokens that pass for it.
"""

import asyncio
import logging
from typing import Final

from cascade_policy.arrival import Arrival, Purpose
from cascade_policy.instance_book import Stay
from cascade_router import sse
from cascade_router.announce import (
    InvalidAnnouncement,
    read_arrival,
    read_question,
    write_offer,
)
from cascade_router.api import PEER_METHODS
from cascade_router.calls import Call
from cascade_router.channel.frames import InvalidFrame
from cascade_router.channel.target_end import TargetChannel
from cascade_router.errors import (
    NOT_FOUND,
    UPSTREAM,
    RequestError,
)
from cascade_router.http1 import JSON, request_bytes
from cascade_router.line import Unreachable
from cascade_router.outbound import Outbound
from cascade_router.own_engine import OwnEngine
from cascade_router.pool import Pool

_TAIL_BYTES: Final = 2048

_log = logging.getLogger(__name__)


class HopSide:
    """What this sidecar does for the fronts of other pods."""

    def __init__(self, own: OwnEngine, pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
        self._own = own
        self._pool = pool
        self._loop = loop

    def bid(self, question: bytes) -> bytes:
        """An offer; empty when this instance takes no new sequences."""
        if not self._own.available:
            return b""
        try:
            asked = read_question(question)
        except InvalidAnnouncement as error:
            _log.warning("a front sent %s", error)
            return b""
        return write_offer(self._own.offer(asked))

    def accept(
        self, channel: TargetChannel, number: int, announcement: bytes, body: bytes
    ) -> "HopRelay | None":
        """Pass a request to the engine, or say why not."""
        try:
            arrival, method, path, passed = read_arrival(announcement)
        except InvalidAnnouncement as error:
            raise InvalidFrame(str(error)) from None
        if PEER_METHODS.get(path) != method:
            unknown = RequestError(404, NOT_FOUND, f"{path} is not served to peers")
            channel.answer(number, unknown.status, {"content-type": JSON}, unknown.body())
            return None
        away = self._own.turned_away(arrival)
        if away is not None:
            channel.answer(number, away.status, away.headers, away.body)
            return None
        return HopRelay(channel, number, self, arrival, Outbound(path, body, passed, method))

    def call(self, request: Outbound, sink: "HopRelay") -> Call:
        """A line to the engine."""
        data = request_bytes(
            request.method, request.path, self._own.address, request.headers, request.body
        )
        return Call(self._pool, data, sink)

    def enter(self, arrival: Arrival) -> Stay | None:
        """Book an arrival that generates."""
        return None if arrival.purpose is Purpose.CONTROL else self._own.enter(arrival)

    def engine_lost(self) -> None:
        """A call to the engine broke."""
        self._own.suspect()

    @property
    def now(self) -> float:
        """Seconds of the loop's clock."""
        return self._loop.time()


class HopRelay:
    """One request of another sidecar, relayed to the engine."""

    __slots__ = ("_before", "_blind", "_booking", "_call", "_channel", "_last", "_number",
                 "_seen_token", "_side", "_stay", "_task")  # fmt: skip

    def __init__(
        self,
        channel: TargetChannel,
        number: int,
        side: HopSide,
        arrival: Arrival,
        request: Outbound,
    ) -> None:
        self._channel = channel
        self._number = number
        self._side = side
        self._stay = side.enter(arrival)
        self._booking = None if self._stay is None else self._stay.booking
        if self._stay is not None:
            self._stay.leave_please = self.leave_please
        self._blind = self._stay is None or arrival.blind
        self._seen_token = False
        self._before = self._last = b""
        self._call = side.call(request, self)
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        try:
            await self._call.send()
        except Unreachable as error:
            self.lost(str(error))
            return
        if self._channel.is_to_wait(self._number):
            self._call.pause()

    # The engine's answer ---------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._channel.head(self._number, status, headers)

    def body(self, data: bytes) -> None:
        self._channel.body(self._number, data)
        # The ends of the last two reads; not all of them: thousands of streams would keep what a
        # burst brought.
        self._before = self._last
        self._last = data if len(data) <= _TAIL_BYTES else data[-_TAIL_BYTES:]
        booking = self._booking
        if booking is None or self._blind:
            return
        tokens = sse.count_tokens(data)
        if tokens:
            booking.grown += tokens
            if not self._seen_token:
                self._seen_token = True
                booking.first_token(self._side.now)

    def leave_please(self, going: bool) -> None:
        """Let the front take the sequence away."""
        self._channel.leave_please(self._number, going)

    def end(self) -> None:
        if self._stay is not None:
            cached = sse.cached_tokens_of((self._before + self._last)[-_TAIL_BYTES:])
            if cached is not None:
                self._stay.computed(cached)
        self._release()
        self._channel.end(self._number)

    def lost(self, reason: str) -> None:
        self._side.engine_lost()
        self._release()
        error = RequestError(502, UPSTREAM, f"the engine was lost: {reason}")
        self._channel.lost(self._number, error.message)

    # The front -------------------------------------------------------------------------------

    def front_gone(self) -> None:
        """The front left: the engine stops at once."""
        self._task.cancel()
        self._call.abort()
        self._release()

    def pause(self) -> None:
        self._call.pause()
        if self._booking is not None:
            self._booking.paused()

    def resume(self) -> None:
        self._call.resume()

    def _release(self) -> None:
        if self._stay is not None:
            self._stay.leave(self._side.now)
