"""Connections to this pod's engine: kept alive, reused, and read in one pass.

The engine writes one event per chunk and one chunk per packet, thousands of times a second. So a
read that is exactly one chunk, at a place where a chunk must begin, is taken apart here; everything
else goes through the parser.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import httptools

from cascade_router import faults
from cascade_router.line import Sink

_MAX_HEADERS: Final = 200
_SIZE_DIGITS: Final = 8
_DIGITS: Final = b"0123456789abcdefABCDEF"
_FRAMING: Final = 4
"""Bytes around size and data of a chunk: two line ends."""


class Upstream(asyncio.Protocol):
    """One connection. It belongs to a call while an answer is awaited, else to its pool."""

    __slots__ = (
        "_between_chunks",
        "_body",
        "_complete",
        "_deliver",
        "_framed",
        "_head",
        "_headers",
        "_in_chunk",
        "_keep_alive",
        "_loop",
        "_on_idle",
        "_parser",
        "_paused",
        "_status",
        "_transport",
        "idle_since",
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
        self.idle_since = 0.0
        self.touched = False
        self._paused = False
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head = False
        self._deliver: Callable[[bytes], None] = _nobody
        self._reset()

    def send(self, data: bytes, sink: Sink) -> None:
        """Send a whole request; its answer goes to `sink`."""
        self.sink = sink
        self._deliver = sink.body
        self.touched = False
        self._reset()
        if self._transport is None:
            self._loop.call_soon(self.connection_lost, None)
        else:
            self._transport.write(data)

    def deliver_to(self, take: Callable[[bytes], None]) -> None:
        """Who takes the pieces of the body of this answer, without a detour by its sink."""
        self._deliver = take

    def abort(self) -> None:
        """Drop the connection at once: the other side stops working for it. Nobody is told."""
        self.sink = None
        self._deliver = _nobody
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Read no more for now."""
        if self.usable and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        if self._paused:
            self._paused = False
            if self.usable and self._transport is not None:
                self._transport.resume_reading()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._between_chunks and data.endswith(b"\r\n"):
            end = data.find(b"\r\n", 1, _SIZE_DIGITS)
            size = data[:end]
            # What int() would take beside digits (sign, underscore, space, 0x) is no chunk size.
            if (
                end > 0
                and not size.strip(_DIGITS)
                and int(size, 16) == len(data) - end - _FRAMING > 0
            ):
                self._deliver(data[end + 2 : -2])
                return
        self._parse(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        # The parser refers to its connection: without this, both wait for the collector of cycles.
        del self._parser
        sink, self.sink = self.sink, None
        self._on_idle(self, False)
        if sink is None:
            return
        if exc is None and self._status and not self._framed:
            sink.end()
        else:
            sink.lost(faults.why_broken(exc))

    # httptools -------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) > _MAX_HEADERS:
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

    def on_chunk_header(self) -> None:
        self._in_chunk = True

    def on_chunk_complete(self) -> None:
        self._in_chunk = False
        self._between_chunks = True

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._complete = self._status != 0

    # Inner life ------------------------------------------------------------------------------

    def _parse(self, data: bytes) -> None:
        sink = self.sink
        if sink is None:
            self.abort()
            return
        self.touched = True
        self._between_chunks = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._break("the answer is not valid HTTP/1.1")
                return
            # What follows a whole answer is nobody's.
            self._keep_alive = False
        # A chunk ended in this read, and nothing of the next one has come: its size line, however
        # short, would leave the parser inside a chunk or the read without this end.
        self._between_chunks = (
            self._between_chunks and not self._in_chunk and data.endswith(b"\r\n")
        )
        if self._head:
            self._head = False
            sink.head(self._status, self._headers)
        if self.sink is not sink:
            return
        body, self._body = self._body, []
        if body:
            self._deliver(body[0] if len(body) == 1 else b"".join(body))
        if self._complete and self.sink is sink:
            self._release(sink)

    def _reset(self) -> None:
        self._status = 0
        self._headers = {}
        self._body = []
        self._head = False
        self._framed = False
        self._complete = False
        self._keep_alive = False
        self._in_chunk = False
        self._between_chunks = False

    def _release(self, sink: Sink) -> None:
        self.sink = None
        self._deliver = _nobody
        self._between_chunks = False
        if self._keep_alive and self.usable:
            self.resume()
            self.idle_since = self._loop.time()
            self._on_idle(self, True)
        elif self._transport is not None:
            self._transport.close()
        sink.end()

    def _break(self, reason: str) -> None:
        sink = self.sink
        self.abort()
        if sink is not None:
            sink.lost(reason)


def _nobody(data: bytes) -> None:
    """Takes what comes when no answer is awaited."""
