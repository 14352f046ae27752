"""Connections to this pod's engine that are kept for reuse."""

import asyncio

from cascade_router import limits
from cascade_router.line import NobodyThere, NoConnection
from cascade_router.upstream import Upstream


class Pool:
    """Idle connections to one address, newest first, and the making of new ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, host: str, port: int) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._idle: list[Upstream] = []

    def take(self) -> Upstream | None:
        """An idle connection that is young enough to be trusted, or None."""
        oldest = self._loop.time() - limits.ENGINE_REUSE_SECONDS
        while self._idle:
            upstream = self._idle.pop()
            if upstream.usable and upstream.idle_since > oldest:
                return upstream
            upstream.abort()
        return None

    async def connect(self) -> Upstream:
        """A new connection. Raises NoConnection, NobodyThere where that is known."""
        try:
            async with asyncio.timeout(limits.CONNECT_SECONDS):
                _, upstream = await self._loop.create_connection(
                    lambda: Upstream(self._loop, self._on_idle), self._host, self._port
                )
        except TimeoutError:
            raise NoConnection("the engine did not accept a connection in time") from None
        except ConnectionRefusedError:
            raise NobodyThere("the engine does not listen") from None
        except OSError as error:
            raise NoConnection(f"the engine: {error.strerror or error}") from None
        return upstream

    def sweep(self, now: float) -> None:
        """Close idle connections that are too old to be used again."""
        oldest = now - limits.ENGINE_REUSE_SECONDS
        for upstream in [old for old in self._idle if old.idle_since <= oldest]:
            self._idle.remove(upstream)
            upstream.abort()

    def close(self) -> None:
        """Close all idle connections."""
        for upstream in self._idle:
            upstream.abort()
        self._idle.clear()

    def _on_idle(self, upstream: Upstream, alive: bool) -> None:
        if alive:
            self._idle.append(upstream)
        elif upstream in self._idle:
            self._idle.remove(upstream)
