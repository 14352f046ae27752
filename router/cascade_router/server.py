"""One client-facing connection: requests in, answers out.

Knows HTTP/1.1, limits and timeouts; knows nothing of what a path means. One request is read and
answered at a time; bytes that come ahead of it wait in a small buffer, unread. The socket is read
on while an answer is written, so that a client that goes away is noticed at once.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Protocol, cast

from cascade_router import faults, limits
from cascade_router.answer_writer import AnswerWriter
from cascade_router.connections import Connections
from cascade_router.errors import INVALID_REQUEST, UNAVAILABLE, UPSTREAM, RequestError
from cascade_router.http1 import JSON, Request, response_head
from cascade_router.request_body import too_large
from cascade_router.request_head import Head
from cascade_router.request_reader import RequestReader


class Exchange(Protocol):
    """Whoever answers a request; told what happens to the client meanwhile."""

    def client_gone(self) -> None:
        """The connection is closed: stop all work for it."""

    def client_slow(self) -> None:
        """The client does not keep up: write no more than what is under way."""

    def client_ready(self) -> None:
        """The client caught up."""


class Service(Protocol):
    """What a server does with requests."""

    def admit(self, client: "ClientConnection", head: Head) -> RequestError | None:
        """Why a request is not let in, by its head alone, before its body is read."""

    def refuse(self, client: "ClientConnection", head: Head, error: RequestError) -> None:
        """Answer a request that was not let in, or whose body cannot be read."""

    def handle(self, client: "ClientConnection", request: Request) -> Exchange | None:
        """Answer a request at once (None) or hand back the exchange that will."""


_log = logging.getLogger(__name__)


class ClientConnection(asyncio.Protocol):
    """One connection of a client or of another sidecar."""

    __slots__ = (
        "_answering",
        "_ended",
        "_exchange",
        "_head",
        "_in_head",
        "_lingered",
        "_loop",
        "_others",
        "_paused_at",
        "_reader",
        "_reading",
        "_seen_at",
        "_service",
        "_started_at",
        "_successor",
        "_transport",
        "_unread",
        "_writer",
        "body",
    )

    def __init__(
        self, service: Service, others: Connections, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._service = service
        self._others = others
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._seen_at = self._started_at = loop.time()
        # The request that is read or answered.
        self._reader = RequestReader(others)
        self._reading = False
        self._in_head = False
        self._head: Head | None = None
        # Its answer.
        self._writer = AnswerWriter()
        self.body: Callable[[bytes], None] = self._writer.body
        """Writes a piece of the body of an answer, at once: no detour by this object."""
        self._exchange: Exchange | None = None
        self._answering = False
        self._paused_at: float | None = None
        # The end of the connection.
        self._ended = False
        self._unread = False
        """The client may be sending what nobody will read."""
        self._lingered = 0
        self._successor: asyncio.Protocol | None = None

    # What the service may do -----------------------------------------------------------------

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
        self._tell_whether_last()
        self._writer.whole(status, body, (("content-type", kind), *headers))
        self._finish()

    def error(self, error: RequestError) -> None:
        """An error as a whole answer."""
        self.respond(error.status, error.body(), error.headers())

    def begin(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None
    ) -> None:
        """The head of an answer whose body follows; `length` in bytes where it is known."""
        self._tell_whether_last()
        self._writer.begin(status, headers, length)

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end of the answer."""
        self._writer.end(data)
        self._finish()

    def abort(self) -> None:
        """Break the connection: the only way to say that an answer is incomplete."""
        self._answering = False
        self._exchange = None
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def switch(
        self, headers: Iterable[tuple[str, str]], protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        """Answer 101 and hand the connection over to another protocol, with what was read ahead."""
        transport, self._transport, self._writer.transport = self._transport, None, None
        self._answering = False
        self._ended = True
        self._others.open.discard(self)
        self._others.finished()
        if transport is None:
            return
        transport.write(response_head(101, headers))
        self._successor = protocol()
        transport.set_protocol(self._successor)
        self._successor.connection_made(transport)
        if not self._reading:
            self._hand_over()

    def hang_up(self) -> None:
        """Break the connection and tell whoever answers that the client is gone."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._writer.transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.WRITE_HIGH_BYTES)
        if self._others.full:
            self._writer.keep_alive = False
            self.error(RequestError(503, UNAVAILABLE, "too many connections", retry_after=1))
            return
        self._others.open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._linger_on(len(data))
            return
        self._seen_at = self._loop.time()
        self._reader.feed(data)
        if not self._answering:
            self._read()
        elif self._reader.waiting > limits.MAX_AHEAD_BYTES:
            self._gone()
            self.abort()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._others.open.discard(self)
        self._reader.take_rest()
        self._transport = self._writer.transport = None
        self._ended = True
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
        quiet = now - self._seen_at
        if self._ended:
            if quiet > (limits.LINGER_SECONDS if self._unread else limits.CLIENT_STALL_SECONDS):
                self._transport.abort()
        elif self._answering:
            if self._paused_at is not None and now - self._paused_at > limits.CLIENT_STALL_SECONDS:
                self._transport.abort()
        elif self._head is not None:
            if quiet > limits.BODY_STALL_SECONDS or self._reader.drips(now - self._started_at):
                self._refuse(_too_slow())
        elif self._in_head:
            if now - self._started_at > limits.HEAD_SECONDS:
                self._refuse(_too_slow())
        elif now - max(self._seen_at, self._others.idle_since) > self._others.idle_seconds:
            self._close()

    # Reading ---------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read on until there is nothing more to read or an answer is under way."""
        self._reading = True
        try:
            while not (self._answering or self._ended) and self._read_request():
                pass
        except RequestError as error:
            self._refuse(error)
        finally:
            self._reading = False
        if self._successor is not None:
            self._hand_over()

    def _read_request(self) -> bool:
        """Read on in one request; whether its end was reached, and it was given to the service."""
        head = self._head
        if head is None:
            head = self._reader.next_head()
            if head is None:
                if self._reader.waiting and not self._in_head:
                    self._in_head, self._started_at = True, self._seen_at
                return False
            self._in_head = False
            self._head = head
            self._writer.prepare(head.http_1_0, head.method == "HEAD")
            refusal = self._admit(head)
            if refusal is not None:
                self._turn_away(head, refusal)
                return True
            if head.expects_continue and head.length != 0:
                self._writer.go_on()
            self._started_at = self._seen_at
        body = self._reader.next_body(head)
        if body is None:
            return False
        self._answer(head, body)
        return True

    def _tell_whether_last(self) -> None:
        """The head of an answer is what a client learns it by that its connection will close."""
        if self._others.draining:
            self._writer.keep_alive = False

    def _hand_over(self) -> None:
        successor, self._successor = self._successor, None
        rest = self._reader.take_rest()
        if successor is not None and rest:
            successor.data_received(rest)

    # Answering -------------------------------------------------------------------------------

    def _admit(self, head: Head) -> RequestError | None:
        try:
            refusal = self._service.admit(self, head)
        except Exception as error:
            return _failed(error)
        limit = self._others.max_body_bytes
        if refusal is None and head.length is not None and head.length > limit:
            return too_large(limit)
        return refusal

    def _answer(self, head: Head, body: bytes) -> None:
        self._writer.keep_alive = head.keep_alive
        self._answering = True
        request = Request(head.method, head.path, head.headers, body)
        try:
            exchange = self._service.handle(self, request)
        except Exception as error:
            self._break_off(_failed(error))
            return
        if self._answering:
            self._exchange = exchange
            if self._paused_at is not None and exchange is not None:
                exchange.client_slow()

    def _turn_away(self, head: Head, error: RequestError) -> None:
        """Answer a request that is not let in. A body that it may have is never read, whether it is
        here or not."""
        self._unread = head.length != 0
        self._writer.keep_alive = head.keep_alive and not self._unread
        self._answering = True
        try:
            self._service.refuse(self, head, error)
        except Exception as fault:
            self._break_off(_failed(fault))

    def _refuse(self, error: RequestError) -> None:
        """Answer a request that cannot be read; nothing after it can be read either."""
        self._reader.take_rest()
        self._in_head = False
        self._unread = True
        head = self._head
        if head is not None:
            self._turn_away(head._replace(keep_alive=False, length=None), error)
            return
        self._writer.prepare()
        self._writer.keep_alive = False
        self._answering = True
        self.error(error)

    def _break_off(self, error: RequestError) -> None:
        """End an answer after a fault: tell the client where that is possible."""
        self._writer.keep_alive = False
        if self._answering and not self._writer.begun:
            self.error(error)
        elif self._answering:
            self.abort()
        else:
            self._close()

    def _finish(self) -> None:
        self._answering = False
        self._exchange = None
        self._head = None
        self._others.finished()
        self._seen_at = self._loop.time()
        if not self._writer.keep_alive:
            self._close()
        elif not self._reading and self._reader.waiting:
            self._read()

    # The end ---------------------------------------------------------------------------------

    def _gone(self) -> None:
        exchange, self._exchange = self._exchange, None
        self._answering = False
        self._others.finished()
        if exchange is not None:
            exchange.client_gone()

    def _close(self) -> None:
        """Close when all is sent. A client that may be sending still is read on for a moment: its
        system would throw an answer away that is followed by a reset."""
        self._ended = True
        if self._transport is None:
            return
        self._reader.take_rest()
        if self._unread and self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _linger_on(self, count: int) -> None:
        self._lingered += count
        if self._lingered > limits.LINGER_BYTES and self._transport is not None:
            self._transport.abort()


def _too_slow() -> RequestError:
    return RequestError(408, INVALID_REQUEST, "the request did not arrive in time; send it again")


def _failed(error: Exception) -> RequestError:
    _log.error("a request failed by a fault of the router: %s", faults.told(error))
    return RequestError(500, UPSTREAM, "the router failed; send the request again")
