"""The client-facing connection: requests in, answers out.

Knows HTTP/1.1, limits and timeouts; knows nothing of what a path means. One answer is under way at
a time; bytes that come ahead of it wait in a small buffer. Reading never stops while an answer is
written, so that a client that goes away is noticed at once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, cast

import httptools

from cascade_router import faults, limits
from cascade_router.errors import INVALID_REQUEST, UNAVAILABLE, UPSTREAM, RequestError
from cascade_router.http1 import JSON, LAST_CHUNK, Request, chunk, response_head


class Exchange(Protocol):
    """Whoever answers a request; told what happens to the client meanwhile."""

    def client_gone(self) -> None:
        """The connection is closed: stop all work for it."""

    def client_slow(self) -> None:
        """The client does not keep up: write no more than what is under way."""

    def client_ready(self) -> None:
        """The client caught up."""


_log = logging.getLogger(__name__)
_HEAD_TOO_LARGE = f"the head is larger than {limits.MAX_HEAD_BYTES} bytes"

Handler = Callable[["ClientConnection", Request], Exchange | None]
"""Answers a request at once (None) or hands back the exchange that will."""


class Connections:
    """All open connections of a server: what drain and the sweep of timeouts look at."""

    def __init__(self) -> None:
        self.open: set[ClientConnection] = set()
        self.draining = False
        """Whether clients are told to come back on other connections."""
        self.idle_seconds = limits.KEEP_ALIVE_SECONDS
        """How long a connection may wait for its next request."""
        self.idle_since = 0.0
        """From when on it counts, at the earliest."""
        self.unread_bytes = 0
        """Bodies of requests that have not arrived completely, all connections together."""
        self._quiet: asyncio.Future[None] | None = None

    def busy(self) -> int:
        """Connections with an answer under way."""
        return sum(1 for connection in self.open if connection.busy)

    async def quiet(self) -> None:
        """Wait until no answer is under way."""
        while self.busy():
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def finished(self) -> None:
        """An answer has ended."""
        if self._quiet is not None and not self._quiet.done() and not self.busy():
            self._quiet.set_result(None)

    def describe(self) -> dict[str, int]:
        """All of them, as `state_page` shows them."""
        return {"open": len(self.open), "busy": self.busy(), "unread_bytes": self.unread_bytes}

    def sweep(self, now: float) -> None:
        """Close what has been idle or stalled for too long."""
        for connection in list(self.open):
            connection.sweep(now)

    def drain(self, idle_seconds: float, now: float) -> None:
        """Every answer is the last one on its connection from now on. A client that was told
        otherwise may send one more request within `idle_seconds`."""
        self.draining, self.idle_since = True, now
        self.idle_seconds = idle_seconds

    def stay(self) -> None:
        """Keep connections after all."""
        self.draining = False
        self.idle_seconds = limits.KEEP_ALIVE_SECONDS


class ClientConnection(asyncio.Protocol):
    """One connection of a client or of another sidecar."""

    __slots__ = (
        "_ahead",
        "_answering",
        "_body",
        "_body_bytes",
        "_chunked",
        "_exchange",
        "_handler",
        "_head_bytes",
        "_headers",
        "_in_next",
        "_in_request",
        "_keep_alive",
        "_loop",
        "_others",
        "_parser",
        "_paused_at",
        "_ready",
        "_request",
        "_seen_at",
        "_started_at",
        "_transport",
        "_unread_head_bytes",
        "_url",
    )

    def __init__(
        self, handler: Handler, others: Connections, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._handler = handler
        self._others = others
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._ready: deque[Request] = deque()
        self._ahead = b""
        self._exchange: Exchange | None = None
        self._answering = False
        self._request: Request | None = None
        self._chunked = False
        self._keep_alive = True
        self._paused_at: float | None = None
        self._seen_at = self._started_at = loop.time()
        self._in_request = False
        self._in_next = False
        self._headers: dict[str, str] = {}
        self._body = bytearray()
        self._begin()

    # What the handler may do -----------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""
        return self._answering

    @property
    def peer(self) -> str:
        """The address of the other end, without its port; empty when it is not known."""
        if self._transport is None:
            return ""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if isinstance(name, tuple) else ""

    @property
    def slow(self) -> bool:
        """Whether the client does not keep up."""
        return self._paused_at is not None

    def respond(
        self, status: int, body: bytes, headers: Iterable[tuple[str, str]] = (), kind: str = JSON
    ) -> None:
        """A whole answer in one write."""
        head = [("content-type", kind), ("content-length", str(len(body))), *headers]
        self._write(response_head(status, [*head, *self._connection_header()]) + body)
        self._finish()

    def error(self, error: RequestError) -> None:
        """An error as a whole answer."""
        self.respond(error.status, error.body(), error.headers())

    def refuse(self, status: int, message: str) -> None:
        """Answer with an error and close: what follows on the connection cannot be read."""
        self._refuse(status, message)

    def begin(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None
    ) -> None:
        """The head of an answer whose body follows; `length` in bytes where it is known."""
        self._chunked = length is None and not (self._request and self._request.http_1_0)
        if self._chunked:
            framing = [("transfer-encoding", "chunked")]
        elif length is not None:
            framing = [("content-length", str(length))]
        else:
            framing, self._keep_alive = [], False
        self._write(response_head(status, [*headers, *framing, *self._connection_header()]))

    def body(self, data: bytes) -> None:
        """A piece of the body, in one write."""
        if data and self._transport is not None:
            self._transport.write(chunk(data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end of the answer."""
        if self._chunked:
            self._write((chunk(data) if data else b"") + LAST_CHUNK)
        elif data:
            self._write(data)
        self._finish()

    def raw(self, data: bytes) -> None:
        """Bytes of an answer that somebody else framed."""
        self._write(data)

    def raw_end(self, keep_alive: bool) -> None:
        """The end of an answer that somebody else framed."""
        self._keep_alive = self._keep_alive and keep_alive
        self._finish()

    def abort(self) -> None:
        """Break the connection: the only way to say that an answer is incomplete."""
        self._answering = False
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def switch(
        self, headers: Iterable[tuple[str, str]], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """Answer 101 and hand the connection over to another protocol."""
        transport, self._transport = self._transport, None
        self._answering = False
        self._others.open.discard(self)
        if transport is None:
            return
        transport.write(response_head(101, headers))
        successor = protocol()
        transport.set_protocol(successor)
        successor.connection_made(transport)

    def hang_up(self) -> None:
        """Break the connection and tell whoever answers that the client is gone."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_HIGH_BYTES)
        if len(self._others.open) >= limits.MAX_CONNECTIONS:
            self._keep_alive = False
            self.error(RequestError(503, UNAVAILABLE, "too many connections", retry_after=1))
            return
        self._others.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._seen_at = self._loop.time()
        if self._answering or self._ready:
            if len(self._ahead) + len(data) > limits.MAX_AHEAD_BYTES:
                self._gone()
                self.abort()
                return
            self._ahead += data
            return
        self._feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._others.open.discard(self)
        self._forget_body()
        self._transport = None
        self._gone()

    def pause_writing(self) -> None:
        self._paused_at = self._loop.time()
        if self._exchange is not None:
            self._exchange.client_slow()

    def resume_writing(self) -> None:
        self._paused_at = None
        if self._exchange is not None:
            self._exchange.client_ready()

    def sweep(self, now: float) -> None:
        """Close this connection if it has been idle or stalled for too long."""
        if self._transport is None:
            return
        if self._answering:
            if self._paused_at is not None and now - self._paused_at > limits.CLIENT_STALL_SECONDS:
                self._transport.abort()
        elif self._in_request:
            late = now - self._started_at > limits.HEAD_SECONDS and self._body_bytes < 0
            if late or now - self._seen_at > limits.BODY_STALL_SECONDS:
                self._refuse(408, "the request did not arrive in time; send it again")
        elif now - max(self._seen_at, self._others.idle_since) > self._others.idle_seconds:
            self._transport.close()

    # httptools -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begin()
        self._in_request = True
        self._started_at = self._seen_at

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + 4)
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        self._body_bytes = 0
        length = self._headers.get("content-length", "0")
        if int(length) > limits.MAX_BODY_BYTES:
            raise _TooLarge
        if self._headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > limits.MAX_BODY_BYTES:
            raise _TooLarge
        if self._others.unread_bytes + len(body) > limits.MAX_UNREAD_BYTES:
            raise _Busy
        self._others.unread_bytes += len(body)
        self._body += body

    def on_message_complete(self) -> None:
        path = self._url.partition(b"?")[0].decode("latin-1")
        self._in_request = False
        self._ready.append(
            Request(
                method=self._parser.get_method().decode("latin-1"),
                path=path,
                headers=self._headers,
                body=bytes(self._body),
                http_1_0=self._parser.get_http_version() == "1.0",
                keep_alive=self._parser.should_keep_alive(),
            )
        )
        self._forget_body()

    # Inner life ------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._forget_body()
        self._head_bytes = self._unread_head_bytes = 0
        self._body_bytes = -1

    def _forget_body(self) -> None:
        self._others.unread_bytes -= len(self._body)
        self._body = bytearray()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > limits.MAX_HEAD_BYTES:
            raise _HeadTooLarge

    @property
    def _in_head(self) -> bool:
        return self._in_request and self._body_bytes < 0

    def _count_unread(self, size: int) -> None:
        self._unread_head_bytes += size
        if self._unread_head_bytes > limits.MAX_HEAD_BYTES:
            raise _HeadTooLarge

    def _feed(self, data: bytes) -> None:
        in_head = self._in_head
        try:
            self._parser.feed_data(data)
            if in_head and self._in_head:
                # The parser tells of a header when it is complete; one that never ends counts too.
                self._count_unread(len(data))
        except _HeadTooLarge:
            self._refuse(431, _HEAD_TOO_LARGE)
            return
        except httptools.HttpParserUpgrade:
            self._next()
            if self._transport is not None:
                self._refuse(400, "protocol upgrades are not supported")
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _HeadTooLarge):
                self._refuse(431, _HEAD_TOO_LARGE)
            elif isinstance(cause, _Busy):
                self._refuse(503, "too many large requests arrive at once; try again", 1)
            elif isinstance(cause, _TooLarge):
                self._refuse(413, f"the body is larger than {limits.MAX_BODY_BYTES} bytes")
            else:
                self._refuse(400, "this is not a valid HTTP/1.1 request")
            return
        self._next()

    def _next(self) -> None:
        """Answer what is ready; an answer that is not complete at once calls back here later."""
        if self._in_next:
            return
        self._in_next = True
        try:
            self._answer_ready()
        finally:
            self._in_next = False

    def _answer_ready(self) -> None:
        while self._ready and not self._answering and self._transport is not None:
            self._request = request = self._ready.popleft()
            self._keep_alive = request.keep_alive
            self._answering = True
            exchange = self._handle(request)
            if self._answering:
                self._exchange = exchange
                if self._paused_at is not None and exchange is not None:
                    exchange.client_slow()

    def _handle(self, request: Request) -> Exchange | None:
        try:
            return self._handler(self, request)
        except Exception as error:
            _log.error("a request failed by a fault of the router: %s", faults.told(error))
            self._keep_alive = False
            self.error(RequestError(500, UPSTREAM, "the router failed; send the request again"))
            return None

    def _finish(self) -> None:
        self._answering = False
        self._exchange = None
        self._others.finished()
        self._request = None
        self._seen_at = self._loop.time()
        if self._transport is None:
            return
        if not self._keep_alive:
            self._ready.clear()
            self._transport.close()
            return
        self._next()
        if self._ahead and not self._answering:
            ahead, self._ahead = self._ahead, b""
            self._feed(ahead)

    def _gone(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._answering = False
        self._ready.clear()
        self._others.finished()
        if exchange is not None:
            exchange.client_gone()

    def _refuse(self, status: int, message: str, retry_after: int | None = None) -> None:
        """Answer a request that could not be read; nothing after it can be read either."""
        self._forget_body()
        self._keep_alive = False
        self._in_request = False
        self._ready.clear()
        self._answering = True
        kind = UNAVAILABLE if status == 503 else INVALID_REQUEST
        self.error(RequestError(status, kind, message, retry_after=retry_after))

    def _connection_header(self) -> list[tuple[str, str]]:
        if self._others.draining:
            self._keep_alive = False
        return [] if self._keep_alive else [("connection", "close")]

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


class _TooLarge(Exception):
    """The body is larger than allowed."""


class _Busy(Exception):
    """The bodies of all connections are larger than allowed."""


class _HeadTooLarge(Exception):
    """Request line and headers are larger than allowed."""
