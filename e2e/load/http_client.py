"""A small HTTP/1.1 client for many streams: a protocol per connection, no task per event."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast
from urllib.parse import urlsplit

import httptools

REUSE_SECONDS: Final = 2.0
"""Idle connections are used again within this time: servers close theirs without notice."""
CONNECT_SECONDS: Final = 10.0

Take = Callable[[bytes, float], None]
"""Takes a piece of the body and the clock time at which it came."""


class AnswerLost(Exception):
    """No complete answer came; the message says what happened."""


class StaleConnection(AnswerLost):
    """A kept connection had been closed by the server: the request has not been seen."""


@dataclass(slots=True)
class Answer:
    """Status and headers (lower case) of an answer, and its body unless someone takes it."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class _Connection(asyncio.Protocol):
    """One connection; carries one request at a time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, gone: Callable[["_Connection"], None]
    ) -> None:
        self.idle_since = 0.0
        self.newest = 0.0
        """When data last came, on the loop's clock."""
        self.closed = False
        self._loop = loop
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._answer = Answer()
        self._take: Take | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._began = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        words = f"connection lost: {exc}" if exc else "connection closed by the server"
        self._fail(AnswerLost(words) if self._began else StaleConnection(words))
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        self.newest = self._loop.time()
        self._began = True
        if self._parser is None:
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What went wrong inside a callback is the parser error's context.
            cause = error.__context__ or error
            self._fail(AnswerLost(f"the answer cannot be read: {cause!r}"))
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self._answer.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._take is not None and self._answer.status == 200:
            self._take(body, self.newest)
        else:
            self._answer.body += body

    def on_message_complete(self) -> None:
        assert self._parser is not None
        keep = self._parser.should_keep_alive()
        done, self._done = self._done, None
        self._parser = None
        if not keep:
            self.close()
        if done is not None and not done.done():
            done.set_result(self._answer)

    async def exchange(self, head: bytes, body: bytes, take: Take | None) -> Answer:
        """Send a request; its answer when it is complete. Raises AnswerLost."""
        if self.closed or self._transport is None:
            raise StaleConnection("connection closed by the server")
        self._parser = httptools.HttpResponseParser(self)
        self._answer, self._take, self._began = Answer(), take, False
        self._done = self._loop.create_future()
        self.newest = self._loop.time()
        self._transport.write(head + body)
        try:
            return await self._done
        finally:
            if self._parser is not None:
                self.close()

    def give_up(self, words: str) -> None:
        """End the exchange: no answer is expected any more."""
        self._began = True
        self._fail(AnswerLost(words))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _fail(self, error: AnswerLost) -> None:
        done, self._done = self._done, None
        if done is not None and not done.done():
            done.set_exception(error)


class HttpClient:
    """Connections to one server, kept and used again."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"--url must look like http://HOST:PORT, not {url!r}")
        self._host = parts.hostname
        self._port = parts.port or 80
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
        self._open: set[_Connection] = set()
        self._none_open = asyncio.Event()

    async def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        take: Take | None = None,
    ) -> Answer:
        """Send one request; the body of a 200 goes to `take` as it comes. Raises AnswerLost.

        A kept connection that turns out to be closed is replaced by a fresh one, once.
        """
        head = self._head(method, path, len(body), headers or {})
        kept = self._kept()
        if kept is not None:
            try:
                return await self._on(kept, head, body, take)
            except StaleConnection:
                pass
        return await self._on(await self._connect(), head, body, take)

    def give_up_silent(self, seconds: float) -> None:
        """End every exchange that has brought nothing for so long."""
        now = self._loop.time()
        for connection in tuple(self._busy):
            if now - connection.newest > seconds:
                connection.give_up(f"nothing came for {seconds:g} s")

    async def close(self) -> None:
        """Close all connections and wait until they are."""
        for connection in self._open:
            connection.close()
        if self._open:
            self._none_open.clear()
            await self._none_open.wait()

    async def _on(
        self, connection: _Connection, head: bytes, body: bytes, take: Take | None
    ) -> Answer:
        self._busy.add(connection)
        try:
            return await connection.exchange(head, body, take)
        finally:
            self._busy.discard(connection)
            if not connection.closed:
                connection.idle_since = self._loop.time()
                self._idle.append(connection)

    def _kept(self) -> _Connection | None:
        """The connection used last, if it is still fresh; those that are not are closed."""
        oldest = self._loop.time() - REUSE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self._loop, self._gone), self._host, self._port
                )
        except TimeoutError:
            raise AnswerLost(f"no connection within {CONNECT_SECONDS:g} s") from None
        except OSError as error:
            raise AnswerLost(f"no connection: {error.strerror or error}") from None
        self._open.add(connection)
        if connection.closed:
            self._gone(connection)
        return connection

    def _gone(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._none_open.set()

    def _head(self, method: str, path: str, length: int, headers: Mapping[str, str]) -> bytes:
        lines = [
            f"{method} {self._prefix}{path} HTTP/1.1",
            f"host: {self._authority}",
            "content-type: application/json",
            f"content-length: {length}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
