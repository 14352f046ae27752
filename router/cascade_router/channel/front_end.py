"""The front's end of a channel: streams and questions to one target."""

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from secrets import token_hex
from struct import pack
from typing import Final, cast

import msgspec

from cascade_router import faults, limits
from cascade_router.channel import handshake
from cascade_router.channel.frames import (
    GOING,
    HEADER,
    MAX_NUMBER,
    FrameReader,
    InvalidFrame,
    Kind,
    frame,
)
from cascade_router.hop import KeyFile
from cascade_router.line import NoConnection, Sink

Answered = Callable[[bytes], None]
"""Takes the answer to a question; empty when the target has none, or is gone."""

_BODY: Final = int(Kind.BODY)
_log = logging.getLogger(__name__)


class FrontChannel(asyncio.Protocol):
    """One connection to a target. `opened` is done when requests may be sent."""

    def __init__(
        self,
        address: str,
        keys: KeyFile,
        loop: asyncio.AbstractEventLoop,
        on_closed: Callable[["FrontChannel"], None],
    ) -> None:
        self.address = address
        self.opened: asyncio.Future[None] = loop.create_future()
        self.idle_since = self._heard_at = self._said_at = loop.time()
        self._keys = keys
        self._loop = loop
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._nonce = token_hex(16)
        self._head = b""
        self._reader = FrameReader(limits.MAX_FRAME_BYTES)
        self._sinks: dict[int, Sink] = {}
        self._bodies: dict[int, Callable[[bytes], None]] = {}
        self._questions: dict[int, Answered] = {}
        self._number = 0

    # What fronts do --------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._sinks and not self._questions

    @property
    def usable(self) -> bool:
        """Whether requests may be sent, or soon may."""
        return not (self.opened.done() and self._transport is None)

    def describe(self, now: float) -> dict[str, object]:
        """This end, as `state_page` shows it."""
        return {
            "address": self.address,
            "open": self.opened.done() and self._transport is not None,
            "streams": len(self._sinks),
            "questions": len(self._questions),
            "idle_seconds": round(now - self.idle_since, 3) if self.idle else None,
            "heard_seconds": round(now - self._heard_at, 3),
        }

    def open(self, announcement: bytes, body: bytes, sink: Sink) -> int:
        """Send a request; its answer goes to `sink`. The number by which to speak of it.

        Raises NoConnection when the channel has closed.
        """
        if self._transport is None:
            raise NoConnection(f"{self.address}: the channel has closed")
        number = self._next_number()
        self._sinks[number] = sink
        self._bodies[number] = sink.body
        size = pack(">I", len(announcement))
        self._write(
            HEADER.pack(Kind.OPEN, number, len(size) + len(announcement) + len(body))
            + size
            + announcement
        )
        self._write(body)
        return number

    def deliver_to(self, number: int, take: Callable[[bytes], None]) -> None:
        """Who takes the pieces of an answer's body, without a detour by its sink."""
        if number in self._bodies:
            self._bodies[number] = take

    def abort(self, number: int) -> None:
        """The answer is not wanted any more."""
        if self._forget(number) is not None:
            self._write(frame(Kind.ABORT, number))

    def pause(self, number: int) -> None:
        """Let the target hold this answer back."""
        if number in self._sinks:
            self._write(frame(Kind.PAUSE, number))

    def resume(self, number: int) -> None:
        """Let it go on."""
        if number in self._sinks:
            self._write(frame(Kind.RESUME, number))

    def ask(self, question: bytes, answered: Answered) -> None:
        """Ask for a bid; `answered` is called exactly once."""
        if self._transport is None:
            answered(b"")
            return
        number = self._next_number()
        self._questions[number] = answered
        self._write(frame(Kind.ASK, number, question))

    def close(self, reason: str = "the channel was closed") -> None:
        """Close: whatever is under way is lost."""
        if self._transport is not None:
            self._transport.abort()
        self._lose(reason)

    def sweep(self, now: float) -> None:
        """Close a channel whose target is silent. Say something every few seconds: the target may
        send tokens all the while and would take a front for gone that only listens."""
        if self._transport is None:
            return
        if now - self._heard_at > limits.CHANNEL_SILENCE_SECONDS:
            self.close(f"nothing came for {limits.CHANNEL_SILENCE_SECONDS:.0f} s")
        elif self.opened.done() and now - self._said_at > limits.CHANNEL_PING_SECONDS:
            self._write(frame(Kind.PING, 0))

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        _watch_for_dead_peer(transport)
        key = self._keys.keys(self._loop.time())[0]
        self._write(handshake.request(key, self.address, time.time(), self._nonce))

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        if not self.opened.done():
            data = self._take_head(data)
        try:
            self._reader.feed(data, self._receive)
        except InvalidFrame as error:
            self.close(f"it does not speak the channel's protocol: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose(faults.why_broken(exc))

    # Inner life ------------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> bytes:
        """The target's answer to the request for a channel; what follows it."""
        self._head += data
        head, end, rest = self._head.partition(handshake.END_OF_HEAD)
        if not end:
            if len(head) > handshake.MAX_HEAD_BYTES:
                self.close("it does not answer as a sidecar does")
            return b""
        self._head = b""
        keys = self._keys.keys(self._loop.time())
        try:
            proof = handshake.proof(keys, head, time.time(), self._nonce)
        except handshake.Untrusted as error:
            self.close(str(error))
            return b""
        self._write(frame(Kind.PROOF, 0, proof))
        self.opened.set_result(None)
        return rest

    def _receive(self, kind: int, number: int, content: bytes) -> None:
        if kind == _BODY:
            take = self._bodies.get(number)
            if take is not None:
                take(content)
            return
        if kind == Kind.PONG:
            return
        if kind == Kind.BID:
            answered = self._questions.pop(number, None)
            self._note_idle()
            if answered is not None:
                answered(content)
            return
        if kind not in (Kind.HEAD, Kind.END, Kind.LOST, Kind.LEAVE):
            raise InvalidFrame(f"a frame of kind {kind}")
        goes_on = kind in (Kind.HEAD, Kind.LEAVE)
        sink = self._sinks.get(number) if goes_on else self._forget(number)
        if sink is None:
            return
        if kind == Kind.LEAVE:
            sink.leave_please(going=content == GOING)
        elif kind == Kind.HEAD:
            try:
                status, headers = msgspec.json.decode(content, type=tuple[int, dict[str, str]])
            except msgspec.MsgspecError as error:
                raise InvalidFrame(f"a head that cannot be read: {error}") from None
            sink.head(status, headers)
        elif kind == Kind.END:
            sink.end()
        else:
            sink.lost(content.decode(errors="replace"))

    def _forget(self, number: int) -> Sink | None:
        self._bodies.pop(number, None)
        sink = self._sinks.pop(number, None)
        self._note_idle()
        return sink

    def _note_idle(self) -> None:
        if self.idle:
            self.idle_since = self._loop.time()

    def _lose(self, reason: str) -> None:
        """Tell everybody that waits; harmless when nobody does."""
        self._transport = None
        if not self.opened.done():
            self.opened.set_exception(NoConnection(f"{self.address}: {reason}"))
            # Whoever waits gets it; nobody may be waiting.
            self.opened.exception()
        self._on_closed(self)
        sinks, self._sinks = self._sinks, {}
        questions, self._questions = self._questions, {}
        self._bodies.clear()
        if sinks:
            _log.warning("channel to %s with %d streams: %s", self.address, len(sinks), reason)
        for sink in sinks.values():
            sink.lost(reason)
        for answered in questions.values():
            answered(b"")

    def _next_number(self) -> int:
        self._number += 1
        if self._number >= MAX_NUMBER:
            raise NoConnection(f"{self.address}: the channel has used up its numbers")
        return self._number

    def _write(self, data: bytes) -> None:
        if self._transport is not None and data:
            self._said_at = self._loop.time()
            self._transport.write(data)


def _watch_for_dead_peer(transport: asyncio.BaseTransport) -> None:
    """Let the kernel notice a node that is gone without a word."""
    raw = transport.get_extra_info("socket")
    if raw is None:
        return
    with contextlib.suppress(OSError):
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limits.USER_TIMEOUT_MS)
