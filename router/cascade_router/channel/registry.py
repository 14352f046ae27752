"""The channels of a front: one to each target, opened when needed, closed when long unused."""

import asyncio
import logging

from cascade_router import limits
from cascade_router.channel.front_end import Answered, FrontChannel
from cascade_router.hop import HopKeyError, KeyFile
from cascade_router.line import NoConnection, Sink

_log = logging.getLogger(__name__)


class Channels:
    """Channels by address."""

    def __init__(self, keys: KeyFile, loop: asyncio.AbstractEventLoop) -> None:
        self._keys = keys
        self._loop = loop
        self._channels: dict[str, FrontChannel] = {}
        self._connecting: set[asyncio.Task[None]] = set()

    async def get(self, address: str) -> FrontChannel:
        """The channel to `address`, ready for requests. Raises NoConnection."""
        channel = self._usable(address)
        # The future belongs to all who wait for it; one that is cancelled must not cancel it.
        await asyncio.shield(channel.opened)
        return channel

    def ask(self, address: str, question: bytes, answered: Answered) -> None:
        """Ask the target at `address`; `answered` is called exactly once, empty without answer."""
        try:
            channel = self._usable(address)
        except NoConnection as error:
            _log.info("no question for %s: %s", address, error)
            answered(b"")
            return
        if channel.opened.done():
            channel.ask(question, answered)
            return

        def opened(future: asyncio.Future[None]) -> None:
            if future.cancelled() or future.exception() is not None:
                answered(b"")
            else:
                channel.ask(question, answered)

        channel.opened.add_done_callback(opened)

    def all(self) -> list[FrontChannel]:
        """All channels, those that are still opening among them."""
        return list(self._channels.values())

    def sweep(self, now: float) -> None:
        """Close channels that are silent or long unused."""
        for channel in list(self._channels.values()):
            if channel.idle and now - channel.idle_since > limits.CHANNEL_IDLE_SECONDS:
                channel.close()
            else:
                channel.sweep(now)

    def close(self) -> None:
        """Close all."""
        for task in self._connecting:
            task.cancel()
        for channel in list(self._channels.values()):
            channel.close()

    def _usable(self, address: str) -> FrontChannel:
        """The channel to `address`, perhaps still opening. Raises NoConnection without a key."""
        channel = self._channels.get(address)
        if channel is not None and channel.usable:
            return channel
        try:
            self._keys.keys(self._loop.time())
        except HopKeyError as error:
            raise NoConnection(str(error)) from None
        channel = FrontChannel(address, self._keys, self._loop, self._closed)
        self._channels[address] = channel
        task = self._loop.create_task(self._open(channel))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return channel

    async def _open(self, channel: FrontChannel) -> None:
        host, _, port = channel.address.rpartition(":")
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                await self._loop.create_connection(lambda: channel, host.strip("[]"), int(port))
                await asyncio.shield(channel.opened)
        except TimeoutError:
            channel.close("it did not accept a channel in time")
        except OSError as error:
            channel.close(error.strerror or str(error))
        except ValueError:
            channel.close("its address is none")
        except NoConnection:
            pass  # The channel has told everybody itself.

    def _closed(self, channel: FrontChannel) -> None:
        if self._channels.get(channel.address) is channel:
            del self._channels[channel.address]


class PeerLine:
    """A line to the engine behind another sidecar."""

    __slots__ = ("_address", "_announcement", "_body", "_channel", "_channels", "_number", "_sink",
                 "over")  # fmt: skip

    def __init__(
        self, channels: Channels, address: str, announcement: bytes, body: bytes, sink: Sink
    ) -> None:
        self._channels = channels
        self._address = address
        self._announcement = announcement
        self._body = body
        self._sink = sink
        self._channel: FrontChannel | None = None
        self._number = 0
        self.over = False

    async def send(self) -> None:
        """Send as soon as the channel is open. Raises NoConnection."""
        channel = await self._channels.get(self._address)
        if self.over:
            return
        self._channel = channel
        self._number = channel.open(self._announcement, self._body, self)
        self._body = b""
        channel.deliver_to(self._number, self._sink.body)

    def abort(self) -> None:
        """Stop; the target drops its work."""
        if not self.over:
            self.over = True
            if self._channel is not None:
                self._channel.abort(self._number)

    def pause(self) -> None:
        """Take no more for now."""
        if self._channel is not None:
            self._channel.pause(self._number)

    def resume(self) -> None:
        """Go on."""
        if self._channel is not None:
            self._channel.resume(self._number)

    # Sink of the channel ---------------------------------------------------------------------

    def head(self, status: int, headers: dict[str, str]) -> None:
        self._sink.head(status, headers)

    def body(self, data: bytes) -> None:
        self._sink.body(data)

    def leave_please(self, going: bool) -> None:
        self._sink.leave_please(going)

    def end(self) -> None:
        self.over = True
        self._sink.end()

    def lost(self, reason: str) -> None:
        self.over = True
        self._sink.lost(reason)
