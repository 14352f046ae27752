"""Calls: one request to this pod's engine, and what becomes of its answer."""

import asyncio

from cascade_router.line import Sink, Unreachable
from cascade_router.pool import Pool
from cascade_router.upstream import Upstream


class Call:
    """A line to the engine. A reused connection that breaks before any byte of the answer was
    closed by its idle limit: the request is sent once more on a fresh one."""

    __slots__ = ("_again", "_pool", "_request", "_reused", "_sink", "_upstream")

    def __init__(self, pool: Pool, request: bytes, sink: Sink) -> None:
        self._pool = pool
        self._request = request
        # None when it is over: who hears of a call often holds it, and neither is to wait for the
        # collector of cycles.
        self._sink: Sink | None = sink
        self._upstream: Upstream | None = None
        self._reused = False
        self._again: asyncio.Task[None] | None = None

    @property
    def over(self) -> bool:
        """Whether the sink hears nothing more."""
        return self._sink is None

    async def send(self) -> None:
        """Connect if need be and send. Raises NoConnection."""
        await self._send(self._pool.take())

    def abort(self) -> None:
        """Stop: the engine sees the connection close; the sink hears nothing more."""
        self._sink = None
        if self._again is not None:
            self._again.cancel()
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None

    def pause(self) -> None:
        """Read no more for now."""
        if self._upstream is not None:
            self._upstream.pause()

    def resume(self) -> None:
        """Read again."""
        if self._upstream is not None:
            self._upstream.resume()

    # Sink of the connection ------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._request = b""  # A prompt can be megabytes; it is never sent again from here on.
        sink = self._sink
        if sink is None:
            return
        sink.head(status, headers)
        if self._upstream is not None and self._sink is not None:
            # Events go straight to who wants them.
            self._upstream.deliver_to(sink.body)

    def body(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink.body(data)

    def leave_please(self, going: bool) -> None:
        """An engine asks for nothing; its router does, through the book."""

    def end(self) -> None:
        self._upstream = None
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.end()

    def lost(self, reason: str) -> None:
        upstream, self._upstream = self._upstream, None
        if self.over:
            return
        if self._reused and upstream is not None and not upstream.touched:
            self._again = asyncio.get_running_loop().create_task(self._send_again())
            return
        self._lost(reason)

    async def _send(self, idle: Upstream | None) -> None:
        self._reused = idle is not None
        upstream = await self._pool.connect() if idle is None else idle
        if self.over:
            upstream.abort()
            return
        self._upstream = upstream
        upstream.send(self._request, self)

    async def _send_again(self) -> None:
        try:
            await self._send(None)
        except Unreachable as error:
            self._lost(str(error))

    def _lost(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.lost(reason)
