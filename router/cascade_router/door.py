"""Where other sidecars come in."""

import asyncio
import time
from collections.abc import Callable

from cascade_router import limits
from cascade_router.channel import handshake, target_end
from cascade_router.hop import HopKeyError, KeyFile, signed_text, verify


class Door:
    """Lets those in that hold the key of this service."""

    def __init__(
        self,
        keys: KeyFile,
        service: target_end.Service,
        channels: target_end.TargetChannels,
        own_address: str,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._keys = keys
        self._own_address = own_address
        self._service = service
        self._channels = channels
        self._loop = loop

    def trusts(self, hop: str) -> bool:
        """Whether a hop header was made by a sidecar of this service that called this one."""
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError:
            return False
        return handshake.is_request(keys, hop, time.time(), self._own_address)

    def knows(self, hop: str, path: str) -> bool:
        """Whether a hop header was made for a plain request to this sidecar for `path`."""
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError:
            return False
        return verify(keys, hop, signed_text(path, self._own_address), time.time())

    @property
    def full(self) -> bool:
        """Whether there are so many channels that no other is opened."""
        return len(self._channels.open) >= limits.MAX_CHANNELS

    def accept(self, hop: str) -> tuple[list[tuple[str, str]], Callable[[], asyncio.Protocol]]:
        """The answer to a front that is trusted, and the protocol that takes over."""
        return target_end.accept(hop, self._keys, self._service, self._channels, self._loop)
