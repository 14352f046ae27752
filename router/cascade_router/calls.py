"""Calls: one request to one address, and what becomes of its answer."""

import asyncio

from cascade_router import limits
from cascade_router.pool import Pool
from cascade_router.upstream import Sink, Unreachable, Upstream


class Call:
    """One request to one address. A reused connection that breaks before any byte of the answer
    was closed by its idle limit: the request is sent once more on a fresh one."""

    __slots__ = ("_again", "_pool", "_request", "_reused", "_sink", "_upstream", "address", "over")

    def __init__(self, pool: Pool, address: str, request: bytes, sink: Sink) -> None:
        self._pool = pool
        self.address = address
        self._request = request
        self._sink = sink
        self._upstream: Upstream | None = None
        self._reused = False
        self._again: asyncio.Task[None] | None = None
        self.over = False

    async def send(self, fresh: bool = False) -> None:
        """Connect if need be and send. Raises NoConnection."""
        upstream = None if fresh else self._pool.take(self.address)
        self._reused = upstream is not None
        if upstream is None:
            upstream = await self._pool.connect(self.address)
        if self.over:
            upstream.abort()
            return
        self._upstream = upstream
        upstream.send(self._request, self)

    def send_on(self, upstream: Upstream) -> None:
        """Send on an idle connection taken from the pool."""
        self._reused = True
        self._upstream = upstream
        upstream.send(self._request, self)

    def abort(self) -> None:
        """Stop: the other side sees the connection close; the sink hears nothing more."""
        self.over = True
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

    @property
    def seen_at(self) -> float:
        """When the last bytes came (or the request was sent), by the loop's clock."""
        return self._upstream.seen_at if self._upstream is not None else float("inf")

    # Sink of the connection ------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._request = b""  # A prompt can be megabytes; it is never sent again from here on.
        if not self.over:
            self._sink.head(status, headers)

    def data(self, raw: bytes, body: bytes) -> None:
        if not self.over:
            self._sink.data(raw, body)

    def end(self, keep_alive: bool) -> None:
        self._upstream = None
        if not self.over:
            self.over = True
            self._sink.end(keep_alive)

    def lost(self, reason: str) -> None:
        upstream, self._upstream = self._upstream, None
        if self.over:
            return
        if self._reused and upstream is not None and not upstream.touched:
            self._again = asyncio.get_running_loop().create_task(self._send_again())
            return
        self.over = True
        self._sink.lost(reason)

    async def _send_again(self) -> None:
        try:
            await self.send(fresh=True)
        except Unreachable as error:
            self.over = True
            self._sink.lost(str(error))


class WholeReply:
    """A whole answer, for control calls."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.status, self.headers = status, headers

    def data(self, raw: bytes, body: bytes) -> None:  # noqa: ARG002
        self._size += len(body)
        if self._size > limits.MAX_FETCH_BYTES:
            self.lost("the answer is too large")
            return
        self._parts.append(body)

    def end(self, keep_alive: bool) -> None:  # noqa: ARG002
        if not self.done.done():
            self.done.set_result(b"".join(self._parts))

    def lost(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Unreachable(reason))


async def fetch(
    pool: Pool, address: str, request: bytes, seconds: float
) -> tuple[int, dict[str, str], bytes]:
    """One control call: status, headers and body. Raises Unreachable, also when it takes longer
    than `seconds`."""
    answer = WholeReply()
    call = Call(pool, address, request, answer)
    try:
        async with asyncio.timeout(seconds):
            await call.send()
            body = await answer.done
    except TimeoutError:
        raise Unreachable(f"{address} did not answer within {seconds:g} s") from None
    finally:
        if not call.over:
            call.abort()
    return answer.status, answer.headers, body
