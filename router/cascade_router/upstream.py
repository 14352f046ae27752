"""Connections to engines and other sidecars: kept alive, reused, and read in one pass.

One call is one request and its answer. What arrives in one read is handed on in one piece, both as
it came (`raw`, for a sidecar that only passes it on) and without the HTTP framing (`body`).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from cascade_router import limits


class Unreachable(Exception):
    """The address gave no answer."""


class NoConnection(Unreachable):
    """No connection to the address could be made."""


class Sink(Protocol):
    """Whoever consumes the answer of a call. After `end` or `lost` nothing more comes."""

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers (names in lower case) are here."""

    def data(self, raw: bytes, body: bytes) -> None:
        """One read: the bytes as they came, and the part of the body in them (may be empty)."""

    def end(self, keep_alive: bool) -> None:
        """The answer is complete; `keep_alive` says whether its framing allows another one."""

    def lost(self, reason: str) -> None:
        """The connection broke before the answer was complete."""


class Upstream(asyncio.Protocol):
    """One connection. It belongs to a call while an answer is awaited, else to its pool."""

    __slots__ = (
        "_body",
        "_complete",
        "_framed",
        "_head",
        "_headers",
        "_keep_alive",
        "_loop",
        "_on_idle",
        "_parser",
        "_paused",
        "_status",
        "_transport",
        "idle_since",
        "seen_at",
        "sink",
        "touched",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, on_idle: Callable[["Upstream", bool], None]
    ) -> None:
        self._loop = loop
        self._on_idle = on_idle
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.sink: Sink | None = None
        self.idle_since = self.seen_at = 0.0
        self.touched = False
        self._paused = False
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head = False
        self._reset()

    def send(self, data: bytes, sink: Sink) -> None:
        """Send a whole request; its answer goes to `sink`."""
        self.sink = sink
        self.touched = False
        self.seen_at = self._loop.time()
        self._reset()
        if self._transport is None:
            self._loop.call_soon(self.connection_lost, None)
        else:
            self._transport.write(data)

    def abort(self) -> None:
        """Drop the connection at once: the other side stops working for it. Nobody is told."""
        self.sink = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more for now."""
        if self.usable and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again; silence counts from here."""
        self.seen_at = self._loop.time()
        if self._paused:
            self._paused = False
            if self.usable and self._transport is not None:
                self._transport.resume_reading()

    def watch_for_dead_peer(self) -> None:
        """Let the kernel notice a node that is gone without a word."""
        raw = None if self._transport is None else self._transport.get_extra_info("socket")
        if raw is None:
            return
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.USER_TIMEOUT_MS)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.abort()
            return
        self.touched = True
        self.seen_at = self._loop.time()
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._break("the answer is not valid HTTP/1.1")
            return
        if self._head:
            self._head = False
            sink.head(self._status, self._headers)
        if self.sink is not sink:
            return
        body = self._body
        joined = body[0] if len(body) == 1 else b"".join(body)
        self._body = []
        sink.data(data, joined)
        if self._complete and self.sink is sink:
            self._release(sink)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        sink, self.sink = self.sink, None
        self._on_idle(self, False)
        if sink is None:
            return
        if exc is None and self._status and not self._framed:
            sink.end(False)
        else:
            sink.lost("the connection broke" if exc is None else f"{exc}" or type(exc).__name__)

    # httptools -------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) > 200:
            raise ValueError("too many headers")
        self._headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            self._headers = {}
            return
        self._status = status
        self._keep_alive = self._parser.should_keep_alive()
        headers = self._headers
        self._framed = "content-length" in headers or "transfer-encoding" in headers
        self._head = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = self._status != 0

    # Inner life ------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._status = 0
        self._headers = {}
        self._body = []
        self._head = False
        self._framed = False
        self._complete = False
        self._keep_alive = False

    def _release(self, sink: Sink) -> None:
        self.sink = None
        keep_alive = self._keep_alive
        if keep_alive and self.usable:
            self.resume()
            self.idle_since = self._loop.time()
            self._on_idle(self, True)
        elif self._transport is not None:
            self._transport.close()
        sink.end(keep_alive)

    def _break(self, reason: str) -> None:
        sink = self.sink
        self.abort()
        if sink is not None:
            sink.lost(reason)
