"""The client's side of streams: opens them, checks every event, and notes how long each took."""

import asyncio
import json
from array import array
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, cast

import httptools

from e2e.bench.router_bench import wire

_NUMBER: Final = len(wire.TEXT) + 1
_STAMP: Final = _NUMBER + 5
_END: Final = len(wire.TEXT) + wire.STAMP_BYTES


@dataclass
class Tally:
    """What all streams of a client received together."""

    events: int = 0
    newest: float = 0.0
    """When the last event came, on the monotonic clock."""
    recording: bool = False
    delays: "array[int]" = field(default_factory=lambda: array("l"))
    """Microseconds from the engine to here, of events while `recording`."""
    wrong: Counter[str] = field(default_factory=Counter)
    """Events and answers that are not what the engine sent, by what is wrong with them."""


class Connection(asyncio.Protocol):
    """A connection that carries one request after the other."""

    def __init__(self, tally: Tally) -> None:
        self.status = 0
        self.number = 0
        """Events of the answer so far."""
        self.first_us: int | None = None
        """When the first event came, by the modulus of stamps."""
        self.body = b""
        """Of an answer that is no stream of events."""
        self.complete = False
        """Whether the answer ended as it should."""
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._now = 0
        self._done: asyncio.Future[None] | None = None
        self._watched: tuple[int, asyncio.Future[None]] | None = None
        self._finished = False
        self._closed = asyncio.Event()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._closed.set()
        if self._done is not None and not self._done.done():
            self._tally.wrong[f"connection lost: {exc}" if exc else "connection closed"] += 1
            self._settle()

    def data_received(self, data: bytes) -> None:
        self._now = wire.now_us()
        self._parser.feed_data(data)

    # The parser's side.

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        data = self._rest + body if self._rest else body
        start, end = 0, data.find(b"\n\n")
        while end >= 0:
            self._event(data, start, end)
            start = end + 2
            end = data.find(b"\n\n", start)
        self._rest = data[start:]

    def on_message_complete(self) -> None:
        self.body, self._rest = self._rest, b""
        if self.status != 200:
            self._tally.wrong[f"status {self.status}"] += 1
        else:
            self.complete = self._finished or not self.number
            if not self.complete:
                self._tally.wrong["stream ended early"] += 1
        self._parser = httptools.HttpResponseParser(self)
        self._settle()

    # The user's side.

    def send(self, request: bytes) -> "asyncio.Future[None]":
        """Send a request; the future is done when its answer has ended, well or not."""
        self.status = self.number = 0
        self.complete = self._finished = False
        self.first_us = None
        self._done = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._tally.wrong["connection closed"] += 1
            self._settle()
        else:
            self._transport.write(request)
        return self._done

    async def reached(self, events: int) -> None:
        """Wait until the answer has so many events, or has ended."""
        if self._done is None or self._done.done() or self.number >= events:
            return
        reached = asyncio.get_running_loop().create_future()
        self._watched = (events, reached)
        await reached

    async def close(self) -> None:
        """Close the connection, whatever is under way, and wait until it is closed."""
        self._done = None
        if self._transport is not None:
            self._transport.abort()
            await self._closed.wait()

    def _event(self, data: bytes, start: int, end: int) -> None:
        at = data.find(wire.TEXT, start, end)
        if at < 0:
            self._without_text(data[start:end])
            return
        tally = self._tally
        if int(data[at + _NUMBER : at + _NUMBER + 4]) != self.number % wire.NUMBERS:
            tally.wrong["event lost, doubled or out of order"] += 1
        if tally.recording:
            sent = int(data[at + _STAMP : at + _END])
            tally.delays.append(wire.delay_us(sent, self._now))
        if self.number == 0:
            self.first_us = self._now
        self.number += 1
        tally.events += 1
        tally.newest = monotonic()
        if self._watched is not None and self.number >= self._watched[0]:
            self._unwatch()

    def _without_text(self, event: bytes) -> None:
        if event == wire.DONE:
            self._finished = True
        elif not event.startswith(b":"):
            self._tally.wrong[
                "error in the stream" if b'"error"' in event else "foreign event"
            ] += 1

    def _settle(self) -> None:
        self._unwatch()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _unwatch(self) -> None:
        if self._watched is not None:
            future, self._watched = self._watched[1], None
            if not future.done():
                future.set_result(None)


async def connect(port: int, tally: Tally) -> Connection:
    """A new connection to `port` of loopback. Raises OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(tally), "127.0.0.1", port)
    return connection


def post(path: str, body: object) -> bytes:
    """A request with a JSON body, as bytes."""
    data = json.dumps(body, separators=(",", ":")).encode()
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    ).encode() + data


def completion(head: int, max_tokens: int, *, stream: bool) -> bytes:
    """A request for `max_tokens`, of which the engine sends `head` at once."""
    body = {"model": wire.MODEL, "prompt": wire.prompt(head), "max_tokens": max_tokens}
    return post(wire.COMPLETIONS, {**body, "stream": True} if stream else body)


async def control(port: int, path: str, body: object) -> bytes:
    """Tell the engine something; its answer."""
    connection = await connect(port, Tally())
    try:
        await connection.send(post(path, body))
        return connection.body
    finally:
        await connection.close()
