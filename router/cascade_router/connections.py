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

    def close_if_idle(self) -> None:
        """Close it if no request is under way."""

    def hang_up(self) -> None:
        """Break it."""


class Connections:
    """The book of connections, with what they share."""

    def __init__(self, max_body_bytes: int = limits.MAX_BODY_BYTES) -> None:
        self.open: set[Connection] = set()
        self.draining = False
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

    def close_idle(self) -> None:
        """Close the connections that wait for a next request."""
        for connection in list(self.open):
            connection.close_if_idle()
