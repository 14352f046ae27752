"""A connection without a socket: what comes in is said byte by byte, and so is what goes out."""

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cascade_router.connections import Connections
from cascade_router.errors import INVALID_REQUEST, RequestError
from cascade_router.http1 import Request
from cascade_router.request_head import Head
from cascade_router.server import ClientConnection, Exchange


class Clock:
    """The part of an event loop that a connection uses."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        """Seconds."""
        return self.now


class Wire(asyncio.Transport):
    """What a connection writes, and how it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = self.aborted = self.eof = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        """Takes all."""
        assert not self.eof, "nothing is written behind the end"
        self.sent += data

    def write_eof(self) -> None:
        """No more is written."""
        self.eof = True

    def can_write_eof(self) -> bool:
        """As TCP can."""
        return True

    def close(self) -> None:
        """When all is sent."""
        self.closed = True

    def abort(self) -> None:
        """At once."""
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        """Whether it ends."""
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing waits here."""

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Somebody else takes over."""
        self.protocol = protocol

    @property
    def over(self) -> bool:
        """Whether the client sees that nothing more will come."""
        return self.closed or self.eof


@dataclass
class Recorder:
    """A service that remembers what it was asked. It answers at once unless `hold` is set."""

    hold: bool = False
    refused_paths: frozenset[str] = frozenset({"/secret"})
    heads: list[Head] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    instead: Callable[[ClientConnection, Request], Exchange | None] | None = None
    waiting: list[ClientConnection] = field(default_factory=list)
    gone: int = 0

    def admit(self, client: ClientConnection, head: Head) -> RequestError | None:  # noqa: ARG002
        """Lets in whatever is not in `refused_paths`."""
        self.heads.append(head)
        if head.path in self.refused_paths:
            return RequestError(401, INVALID_REQUEST, "no")
        return None

    def refuse(self, client: ClientConnection, head: Head, error: RequestError) -> None:  # noqa: ARG002
        """Counts."""
        self.refusals.append(error.status)
        client.error(error)

    def handle(self, client: ClientConnection, request: Request) -> Exchange | None:
        """Answers with the length of the body."""
        self.requests.append(request)
        if self.instead is not None:
            return self.instead(client, request)
        if self.hold:
            self.waiting.append(client)
            return self
        client.respond(200, b"%d" % len(request.body), kind="text/plain")
        return None

    def client_gone(self) -> None:
        """Counts."""
        self.gone += 1

    def client_slow(self) -> None:
        """Nothing."""

    def client_ready(self) -> None:
        """Nothing."""


@dataclass
class Talk:
    """One connection, its service, and what they did."""

    service: Recorder
    book: Connections
    clock: Clock
    wire: Wire
    connection: ClientConnection

    @property
    def sent(self) -> bytes:
        """All that was written to the client."""
        return bytes(self.wire.sent)

    @property
    def statuses(self) -> list[int]:
        """Of all answers, in order."""
        return [int(found) for found in re.findall(rb"HTTP/1\.1 ([0-9]{3}) [A-Z]", self.sent)]

    def say(self, *pieces: bytes) -> "Talk":
        """The client sends these pieces, as far as the connection reads them."""
        for piece in pieces:
            if not self.wire.closed:
                self.connection.data_received(piece)
        return self

    def wait(self, seconds: float) -> "Talk":
        """Time passes, and the sweep comes by."""
        self.clock.now += seconds
        self.book.sweep(self.clock.now)
        return self


def talk(*pieces: bytes, service: Recorder | None = None, max_body_bytes: int = 1 << 20) -> Talk:
    """A connection on which the client has sent `pieces`."""
    clock, wire, book = Clock(), Wire(), Connections(max_body_bytes)
    service = service or Recorder()
    connection = ClientConnection(service, book, cast(asyncio.AbstractEventLoop, clock))
    connection.connection_made(wire)
    return Talk(service, book, clock, wire, connection).say(*pieces)


def cut(data: bytes, places: Iterable[int]) -> Sequence[bytes]:
    """`data` in pieces, cut at these places."""
    ends = sorted({place for place in places if 0 < place < len(data)})
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]
