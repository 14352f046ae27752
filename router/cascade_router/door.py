"""Where other sidecars come in."""

import asyncio
import time
from collections.abc import Callable

from cascade_router.channel import target_end
from cascade_router.hop import HopKeyError, KeyFile, verify


class Door:
    """Lets those in that hold the key of this service."""

    def __init__(
        self,
        keys: KeyFile,
        service: target_end.Service,
        channels: target_end.TargetChannels,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._keys = keys
        self._service = service
        self._channels = channels
        self._loop = loop

    def trusts(self, hop: str, path: str) -> bool:
        """Whether a hop header was made by a sidecar of this service for `path`."""
        try:
            keys = self._keys.keys(self._loop.time())
        except HopKeyError:
            return False
        return verify(keys, hop, path, time.time())

    def accept(self, hop: str) -> tuple[list[tuple[str, str]], Callable[[], asyncio.Protocol]]:
        """The answer to a front that is trusted, and the protocol that takes over."""
        return target_end.accept(hop, self._keys, self._service, self._channels, self._loop)
