"""All open connections of a server, for drain, the sweep of timeouts and the state page."""

import asyncio
from typing import Protocol

from cascade_router import limits


class Connection(Protocol):
    """One of them."""

    @property
    def busy(self) -> bool:
        """Whether an answer is under way."""

    @property
    def slow(self) -> bool:
        """Whether the client does not keep up."""

    def sweep(self, now: float) -> None:
        """Close it if it has been idle or stalled for too long."""

    def hang_up(self) -> None:
        """Break it."""


class Connections:
    """The book of connections, with what they share."""

    def __init__(self, max_body_bytes: int = limits.MAX_BODY_BYTES) -> None:
        self.open: set[Connection] = set()
        self.draining = False
        """Whether clients are told to come back on other connections."""
        self.idle_seconds = limits.KEEP_ALIVE_SECONDS
        """How long a connection may wait for its next request."""
        self.idle_since = 0.0
        """From when on it counts, at the earliest."""
        self.max_body_bytes = max_body_bytes
        """Of one request."""
        self.unread_bytes = 0
        """Bodies of requests that have not arrived completely, all connections together."""
        self._quiet: asyncio.Future[None] | None = None

    @property
    def full(self) -> bool:
        """Whether there is no place for another one."""
        return len(self.open) >= limits.MAX_CONNECTIONS

    def busy(self) -> int:
        """Connections with an answer under way."""
        return sum(1 for connection in self.open if connection.busy)

    async def quiet(self) -> None:
        """Wait until no answer is under way."""
        while self.busy():
            self._quiet = asyncio.get_running_loop().create_future()
            await self._quiet

    def finished(self) -> None:
        """An answer has ended."""
        if self._quiet is not None and not self._quiet.done() and not self.busy():
            self._quiet.set_result(None)

    def describe(self) -> dict[str, int]:
        """All of them, as `state_page` shows them."""
        return {"open": len(self.open), "busy": self.busy(), "unread_bytes": self.unread_bytes}

    def sweep(self, now: float) -> None:
        """Close what has been idle or stalled for too long."""
        for connection in list(self.open):
            connection.sweep(now)

    def drain(self, idle_seconds: float, now: float) -> None:
        """Every answer is the last one on its connection from now on. A client that was told
        otherwise may send one more request within `idle_seconds`."""
        self.draining, self.idle_since = True, now
        self.idle_seconds = idle_seconds

    def stay(self) -> None:
        """Keep connections after all."""
        self.draining = False
        self.idle_seconds = limits.KEEP_ALIVE_SECONDS
