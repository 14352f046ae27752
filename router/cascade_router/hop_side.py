"""The target's side of a hop: what another sidecar sends is passed to this pod's engine.

Bytes go through unchanged, token ids included: only the front reads them. This side keeps the book
of the engine's load, and counts the tokens that pass for it.
"""

import asyncio
import json

from cascade_policy.load import Booking
from cascade_router import limits, sse
from cascade_router.api import PEER_METHODS, PLACED_PATHS
from cascade_router.calls import Call
from cascade_router.errors import UNAVAILABLE, UPSTREAM, RequestError
from cascade_router.http1 import Request, request_bytes
from cascade_router.own_engine import OwnEngine
from cascade_router.passed import passed_headers, request_id
from cascade_router.peers import HEADER_DISPATCH, HEADER_REBID, Dispatch
from cascade_router.pool import Pool
from cascade_router.server import ClientConnection
from cascade_router.upstream import Unreachable


class HopRelay:
    """One request of another sidecar, relayed to the engine."""

    def __init__(
        self,
        front: ClientConnection,
        request: Request,
        own: OwnEngine,
        pool: Pool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._front = front
        self._own = own
        self._loop = loop
        self._started = False
        self._seen_token = False
        self._booking: Booking | None = None
        if request.path in PLACED_PATHS:
            dispatch = Dispatch.parse(request.headers.get(HEADER_DISPATCH, ""))
            self._booking = own.book(dispatch.length)
        passed = passed_headers(request.headers, request_id(request.headers))
        data = request_bytes(request.method, request.path, own.address, passed, request.body)
        self._call = Call(pool, own.address, data, self)
        self._task = loop.create_task(self._send())

    async def _send(self) -> None:
        try:
            await self._call.send()
        except Unreachable as error:
            self.lost(str(error))
            return
        if self._front.slow:
            self._call.pause()

    # The engine's answer ---------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        if self._booking is not None and not headers.get("content-type", "").startswith(
            "text/event-stream"
        ):
            self._booking.first_token(self._loop.time())
        self._started = status > 0

    def data(self, raw: bytes, body: bytes) -> None:
        self._front.raw(raw)
        booking = self._booking
        if booking is not None and body:
            tokens = sse.count_tokens(body)
            if tokens:
                if not self._seen_token:
                    self._seen_token = True
                    booking.first_token(self._loop.time())
                booking.token(tokens)

    def end(self, keep_alive: bool) -> None:
        self._release()
        self._front.raw_end(keep_alive)

    def lost(self, reason: str) -> None:
        self._own.suspect()
        self._release()
        if self._started:
            self._front.abort()
        else:
            self._front.error(RequestError(502, UPSTREAM, f"the engine was lost: {reason}"))

    # The front -------------------------------------------------------------------------------

    def client_gone(self) -> None:
        """The front left: the engine stops at once."""
        self._task.cancel()
        self._call.abort()
        self._release()

    def client_slow(self) -> None:
        self._call.pause()

    def client_ready(self) -> None:
        self._call.resume()

    def _release(self) -> None:
        if self._booking is not None:
            self._booking.finish(self._loop.time())


def accept(
    front: ClientConnection,
    request: Request,
    own: OwnEngine,
    pool: Pool,
    loop: asyncio.AbstractEventLoop,
) -> HopRelay | None:
    """Take a hop, or answer that it is not wanted."""
    if PEER_METHODS.get(request.path) != request.method:
        front.error(RequestError(404, UNAVAILABLE, f"{request.path} is not served to peers"))
        return None
    dispatch = Dispatch.parse(request.headers.get(HEADER_DISPATCH, ""))
    bid = dispatch.bid
    if bid is not None and own.has_risen(bid, dispatch.length, dispatch.remaining):
        front.respond(409, _bid_again(), [(HEADER_REBID, "1")])
        return None
    return HopRelay(front, request, own, pool, loop)


def bid(front: ClientConnection, own: OwnEngine, draining: bool) -> None:
    """Answer a question for this instance's load."""
    if draining or not own.healthy:
        front.error(
            RequestError(
                503,
                UNAVAILABLE,
                "this instance takes no new sequences",
                retry_after=limits.RETRY_AFTER_SECONDS,
            )
        )
        return
    front.respond(200, own.bid())


def _bid_again() -> bytes:
    return json.dumps({"error": {"message": "the price has risen; bid again"}}).encode()
