"""Connections that are kept for reuse, by address."""

import asyncio

from cascade_router import limits
from cascade_router.upstream import NoConnection, Upstream


class Pool:
    """Idle connections by address, newest first, and the making of new ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine_address: str) -> None:
        self._loop = loop
        self._engine_address = engine_address
        self._idle: dict[str, list[Upstream]] = {}
        self._of: dict[Upstream, str] = {}

    def take(self, address: str) -> Upstream | None:
        """An idle connection that is young enough to be trusted, or None."""
        idle = self._idle.get(address)
        oldest = self._loop.time() - self._reuse_seconds(address)
        while idle:
            upstream = idle.pop()
            if upstream.usable and upstream.idle_since > oldest:
                return upstream
            upstream.abort()
        return None

    async def connect(self, address: str) -> Upstream:
        """A new connection. Raises NoConnection."""
        host, _, port = address.rpartition(":")
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                _, upstream = await self._loop.create_connection(
                    lambda: Upstream(self._loop, self._on_idle), host.strip("[]"), int(port)
                )
        except TimeoutError:
            raise NoConnection(f"{address} did not accept a connection in time") from None
        except OSError as error:
            raise NoConnection(f"{address}: {error.strerror or error}") from None
        if address != self._engine_address:
            upstream.watch_for_dead_peer()
        self._of[upstream] = address
        return upstream

    def sweep(self, now: float) -> None:
        """Close idle connections that are too old to be used again."""
        for address, idle in list(self._idle.items()):
            oldest = now - self._reuse_seconds(address)
            for upstream in [old for old in idle if old.idle_since <= oldest]:
                idle.remove(upstream)
                upstream.abort()
            if not idle:
                del self._idle[address]

    def close(self) -> None:
        """Close all idle connections."""
        for idle in self._idle.values():
            for upstream in idle:
                upstream.abort()
        self._idle.clear()

    def _reuse_seconds(self, address: str) -> float:
        engine = address == self._engine_address
        return limits.ENGINE_REUSE_SECONDS if engine else limits.PEER_REUSE_SECONDS

    def _on_idle(self, upstream: Upstream, alive: bool) -> None:
        if alive:
            address = self._of.get(upstream)
            if address is not None:
                self._idle.setdefault(address, []).append(upstream)
            return
        address = self._of.pop(upstream, None)
        idle = self._idle.get(address or "")
        if idle and upstream in idle:
            idle.remove(upstream)
