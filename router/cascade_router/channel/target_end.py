"""The target's end of a channel: what one front sends, and what it gets."""

import asyncio
import logging
import time
from collections.abc import Callable
from secrets import token_hex
from struct import unpack_from
from typing import Final, Protocol, cast

import msgspec

from cascade_router import limits
from cascade_router.channel import handshake
from cascade_router.channel.frames import (
    GOING,
    HEADER,
    FrameReader,
    InvalidFrame,
    Kind,
    frame,
)
from cascade_router.hop import HopKeyError, KeyFile

_BODY: Final = int(Kind.BODY)
_SIZE_BYTES: Final = 4
MAX_PROOF_BYTES: Final = 1024
_log = logging.getLogger(__name__)


class Relay(Protocol):
    """Whoever answers one request of a channel."""

    def front_gone(self) -> None:
        """Nobody wants the answer any more."""

    def pause(self) -> None:
        """Send no more for now."""

    def resume(self) -> None:
        """Go on."""


class Service(Protocol):
    """What a target does for its fronts."""

    def accept(
        self, channel: "TargetChannel", number: int, announcement: bytes, body: bytes
    ) -> Relay | None:
        """Answer a request, at once (None) or by the relay that is handed back."""

    def bid(self, question: bytes) -> bytes:
        """The answer to a question; empty for none."""


class TargetChannels:
    """All channels of fronts to this sidecar: what drain and the sweep look at."""

    def __init__(self) -> None:
        self.open: set[TargetChannel] = set()
        self._quiet: asyncio.Future[None] | None = None

    def busy(self) -> int:
        """Answers that are under way."""
        return sum(len(channel.relays) for channel in self.open)

    async def quiet(self) -> None:
        """Wait until no answer is under way."""
        while self.busy():
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def finished(self) -> None:
        """An answer has ended."""
        if self._quiet is not None and not self._quiet.done() and not self.busy():
            self._quiet.set_result(None)

    def sweep(self, now: float) -> None:
        """Close what is silent."""
        for channel in list(self.open):
            channel.sweep(now)

    def close(self) -> None:
        """Close all."""
        for channel in list(self.open):
            channel.close()


class TargetChannel(asyncio.Protocol):
    """One connection of a front. It does nothing before it has proved itself."""

    def __init__(
        self,
        challenge: str,
        keys: KeyFile,
        service: Service,
        others: TargetChannels,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.relays: dict[int, Relay] = {}
        self._challenge = challenge
        self._keys = keys
        self._service = service
        self._others = others
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = FrameReader(MAX_PROOF_BYTES)
        self._held: set[int] = set()
        """Answers that the front wants to wait."""
        self._trusted = False
        self._heard_at = loop.time()
        self._slow = False

    # What relays do --------------------------------------------------------------------------

    def is_to_wait(self, number: int) -> bool:
        """Whether this answer is to be held back: its client or the whole front is slow."""
        return self._slow or number in self._held

    def describe(self, now: float) -> dict[str, object]:
        """This end, as `state_page` shows it."""
        name = None if self._transport is None else self._transport.get_extra_info("peername")
        return {
            "address": f"{name[0]}:{name[1]}" if isinstance(name, tuple) else None,
            "proved": self._trusted,
            "streams": len(self.relays),
            "slow": self._slow,
            "heard_seconds": round(now - self._heard_at, 3),
        }

    def head(self, number: int, status: int, headers: dict[str, str]) -> None:
        """Status and headers of an answer."""
        self._write(frame(Kind.HEAD, number, msgspec.json.encode((status, headers))))

    def body(self, number: int, data: bytes) -> None:
        """A piece of its body."""
        if self._transport is not None:
            self._transport.write(HEADER.pack(_BODY, number, len(data)) + data)

    def leave_please(self, number: int, going: bool) -> None:
        """Ask the front to take this sequence away; `going`: because this instance leaves."""
        self._write(frame(Kind.LEAVE, number, GOING if going else b""))

    def end(self, number: int) -> None:
        """It is complete."""
        self._write(frame(Kind.END, number))
        self._forget(number)

    def lost(self, number: int, reason: str) -> None:
        """It will never be."""
        self._write(frame(Kind.LOST, number, reason.encode()))
        self._forget(number)

    def answer(self, number: int, status: int, headers: dict[str, str], body: bytes) -> None:
        """A whole answer."""
        self.head(number, status, headers)
        if body:
            self.body(number, body)
        self.end(number)

    def close(self) -> None:
        """Break the connection: the front resumes its streams elsewhere."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """A front that asks nothing, not even whether somebody is there, is gone."""
        limit = limits.CHANNEL_SILENCE_SECONDS if self._trusted else limits.HEAD_SECONDS
        if now - self._heard_at > limit:
            self.close()

    # asyncio ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=limits.CHANNEL_HIGH_BYTES)
        self._others.open.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = self._loop.time()
        try:
            self._reader.feed(data, self._receive)
        except InvalidFrame as error:
            _log.warning("a channel was closed: %s", error)
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._others.open.discard(self)
        relays, self.relays = self.relays, {}
        for relay in relays.values():
            relay.front_gone()
        self._others.finished()

    def pause_writing(self) -> None:
        self._slow = True
        for relay in list(self.relays.values()):
            relay.pause()

    def resume_writing(self) -> None:
        self._slow = False
        for number, relay in list(self.relays.items()):
            if number not in self._held:
                relay.resume()

    # Inner life ------------------------------------------------------------------------------

    def _receive(self, kind: int, number: int, content: bytes) -> None:
        if not self._trusted:
            self._check(kind, content)
        elif kind == Kind.OPEN:
            self._open(number, content)
        elif kind == Kind.ASK:
            self._write(frame(Kind.BID, number, self._service.bid(content)))
        elif kind == Kind.PING:
            self._write(frame(Kind.PONG, 0))
        elif kind in (Kind.ABORT, Kind.PAUSE, Kind.RESUME):
            self._tell(kind, number)
        else:
            raise InvalidFrame(f"a frame of kind {kind}")

    def _check(self, kind: int, content: bytes) -> None:
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError as error:
            raise InvalidFrame(str(error)) from None
        if kind != Kind.PROOF or not handshake.is_proof(
            keys, content, time.time(), self._challenge
        ):
            raise InvalidFrame("the front did not prove that it is a sidecar of this service")
        self._trusted = True
        self._reader.limit = limits.MAX_FRAME_BYTES

    def _open(self, number: int, content: bytes) -> None:
        if len(content) < _SIZE_BYTES:
            raise InvalidFrame("a request without announcement")
        end = _SIZE_BYTES + int(unpack_from(">I", content)[0])
        relay = self._service.accept(self, number, content[_SIZE_BYTES:end], content[end:])
        if relay is not None:
            self.relays[number] = relay

    def _tell(self, kind: int, number: int) -> None:
        relay = self.relays.get(number)
        if relay is None:
            return
        if kind == Kind.ABORT:
            self._forget(number)
            relay.front_gone()
        elif kind == Kind.PAUSE:
            self._held.add(number)
            relay.pause()
        else:
            self._held.discard(number)
            if not self._slow:
                relay.resume()

    def _forget(self, number: int) -> None:
        self.relays.pop(number, None)
        self._held.discard(number)
        self._others.finished()

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def accept(
    hop: str,
    keys: KeyFile,
    service: Service,
    others: TargetChannels,
    loop: asyncio.AbstractEventLoop,
) -> tuple[list[tuple[str, str]], Callable[[], TargetChannel]]:
    """(headers of the 101, maker of the protocol) for a front whose signed header is `hop`."""
    challenge = token_hex(16)
    headers = handshake.acceptance(keys.keys(loop.time())[0], hop, time.time(), challenge)
    return headers, lambda: TargetChannel(challenge, keys, service, others, loop)
