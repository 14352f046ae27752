"""HTTP/1.1 on one connection: reads requests one after the other, writes their answers."""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, Protocol, cast
from urllib.parse import unquote

import httptools

MOST_HEADER_BYTES: Final = 64 * 1024
MOST_BODY_BYTES: Final = 32 * 1024 * 1024
MOST_WAITING_REQUESTS: Final = 8
"""Requests that a client may send ahead on one connection."""
REQUEST_SECONDS: Final = 60.0
"""How long a client may take to send one request."""

_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_NO_LINGER: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class HttpRequest:
    """One request, whole. Header names in lower case."""

    method: str = ""
    path: str = ""
    """Without the query, percent encoding decoded, as an ASGI server hands it on."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    keep_alive: bool = True


class Handler(Protocol):
    """Answers requests; may answer later, through the connection."""

    def __call__(self, connection: "HttpConnection", request: HttpRequest) -> None: ...


def _nothing() -> None:
    """Nobody listens."""


class OpenConnections:
    """The connections of one server, so that they can be cut off at its end."""

    def __init__(self) -> None:
        self._open: set[HttpConnection] = set()
        self._none_open = asyncio.Event()

    def add(self, connection: "HttpConnection") -> None:
        """A client has connected."""
        self._open.add(connection)

    def discard(self, connection: "HttpConnection") -> None:
        """A connection is closed."""
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    async def reset_all(self) -> None:
        """Cut all off and wait until they are closed."""
        for connection in self._open:
            connection.reset()
        if self._open:
            self._none_open.clear()
            await self._none_open.wait()


class HttpConnection(asyncio.Protocol):
    """One client. While an answer is under way, `on_closed` and `on_resumed` tell its writer."""

    def __init__(
        self, handle: Handler, keep_alive_seconds: float, open_ones: "OpenConnections"
    ) -> None:
        self.paused = False
        self.on_closed: Callable[[], None] = _nothing
        self.on_resumed: Callable[[], None] = _nothing
        self._handle = handle
        self._keep_alive_seconds = keep_alive_seconds
        self._open_ones = open_ones
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request = HttpRequest()
        self._url = b""
        self._body: list[bytes] = []
        self._size = 0
        self._waiting: deque[HttpRequest] = deque()
        self._current: HttpRequest | None = None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by behaviour, not by inheritance.
        self._transport = cast(asyncio.Transport, transport)
        self._open_ones.add(self)
        self._set_timer(self._keep_alive_seconds)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._open_ones.discard(self)
        self._cancel_timer()
        self._waiting.clear()
        closed, self.on_closed = self.on_closed, _nothing
        closed()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.on_resumed()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MOST_HEADER_BYTES + MOST_BODY_BYTES:
            self._refuse(413, "the request is larger than the engine reads")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "the engine does not change protocols")
        except httptools.HttpParserCallbackError as error:
            self._loop.call_exception_handler(
                {"message": "a request failed", "exception": error.__context__ or error}
            )
            self._refuse(500, "the engine failed on this request: its log says why")
        except httptools.HttpParserError as error:
            self._refuse(400, f"the request is not HTTP/1.1: {error}")

    # The parser's side.

    def on_message_begin(self) -> None:
        self._request = HttpRequest()
        self._url = b""
        self._body = []
        if self._current is None:
            self._set_timer(REQUEST_SECONDS)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._request.method = self._parser.get_method().decode("latin-1")
        self._request.keep_alive = self._parser.should_keep_alive()
        if self._request.headers.get("expect", "").lower() == "100-continue":
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._request.body = b"".join(self._body)
        self._request.path = _path(self._url)
        self._body = []
        self._size = 0
        self._waiting.append(self._request)
        if self._current is None:
            self._next()
        elif len(self._waiting) > MOST_WAITING_REQUESTS:
            self.reset()

    # The answer's side.

    def send(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer."""
        lines = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "server: uvicorn",
            f"content-length: {len(body)}",
            f"content-type: {content_type}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        self._write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        self._end()

    def send_json(self, body: bytes) -> None:
        """Send a whole answer that is JSON already."""
        self.send(200, body)

    def start_stream(self) -> None:
        """Send the head of an answer that comes in chunks."""
        self._write(_STREAM_HEAD)

    def send_chunks(self, chunks: bytes) -> None:
        """Send chunks of a chunked body."""
        if self._transport is not None:
            self._transport.write(chunks)

    def end_chunks(self, chunks: bytes) -> None:
        """Send the last chunks and end the answer."""
        self._write(chunks + b"0\r\n\r\n")
        self._end()

    def reset(self) -> None:
        """Cut the connection off with a TCP reset."""
        if self._transport is None:
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def close(self) -> None:
        """Close the connection when what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def _next(self) -> None:
        self._cancel_timer()
        self._current = self._waiting.popleft()
        self._handle(self, self._current)

    def _end(self) -> None:
        request, self._current = self._current, None
        self.on_closed = self.on_resumed = _nothing
        if request is None or not request.keep_alive:
            self.close()
        elif self._waiting:
            self._loop.call_soon(self._next_if_free)
        else:
            self._set_timer(self._keep_alive_seconds)

    def _next_if_free(self) -> None:
        if self._current is None and self._waiting:
            self._next()

    def _refuse(self, status: int, message: str) -> None:
        self._current = None
        body = f'{{"error":{{"message":"{message}","type":"BadRequestError","code":{status}}}}}'
        self.send(status, body.encode(), headers={"connection": "close"})
        self.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _set_timer(self, seconds: float) -> None:
        self._cancel_timer()
        self._timer = self._loop.call_later(seconds, self.close)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _path(url: bytes) -> str:
    """The path of a request's target, decoded; empty where it has none."""
    try:
        path = httptools.parse_url(url).path
    except httptools.HttpParserInvalidURLError:
        return ""
    return unquote(path.decode("latin-1")) if path else ""
