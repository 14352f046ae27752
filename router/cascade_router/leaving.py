"""Leaving: what a pod does between the moment it is to go and its end.

The engine gets nothing new, what can go on elsewhere is asked to, the rest may end. Meanwhile this
pod answers clients as before, by other instances. It learns that it is to go from the kubelet, by
the hook that runs before the engine's container is stopped; from the API server; or from SIGTERM,
which the kubelet sends to a native sidecar only when the engine has ended.
"""

import asyncio
import contextlib
import hmac
import logging
from collections.abc import Mapping
from typing import Final

from cascade_policy.names import HEADER_LEAVES
from cascade_router.connections import Connections
from cascade_router.own_engine import OwnEngine
from cascade_router.server import ClientConnection

POLL_SECONDS: Final = 0.02
"""Between two looks whether the engine is free."""
RETURN_SECONDS: Final = 30.0
"""After the kubelet was told that the engine is free: a pod that is still there by then, and whose
engine is well, was not to go. Its engine's container alone was restarted."""

_log = logging.getLogger(__name__)


class Leaving:
    """Whether this pod leaves, and since when."""

    def __init__(
        self,
        own: OwnEngine,
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        secret: str,
        seconds: float,
        propagation: float,
    ) -> None:
        self.since: float | None = None
        self._own = own
        self._connections = connections
        self._loop = loop
        self._secret = secret
        self._seconds = seconds
        self._propagation = propagation
        self._final = False
        """Whether the pod is known to end, rather than perhaps its engine's container alone."""
        self._freed_at: float | None = None

    @property
    def end(self) -> float:
        """When whatever still runs is cut off."""
        return (self._loop.time() if self.since is None else self.since) + self._seconds

    @property
    def known_at(self) -> float:
        """When nobody should send anything here any more."""
        since = self._loop.time() if self.since is None else self.since
        return since + min(self._propagation, self._seconds)

    def begin(self, why: str, *, final: bool) -> None:
        """Leave. Harmless when it is under way."""
        self._final = self._final or final
        if self.since is not None:
            return
        _log.info("leaving: %s; not ready from now on", why)
        self.since, self._freed_at = self._loop.time(), None
        self._own.leaving = True
        self._connections.drain(self._propagation, self.since)
        self._own.send_away()

    def look(self, now: float) -> None:
        """Ask those again that had nowhere to go; stay if the pod was not to go after all."""
        if self.since is None:
            return
        freed = self._freed_at
        over = freed is not None and now - freed > RETURN_SECONDS
        if over and not self._final and self._own.healthy:
            _log.info("staying after all: only the engine's container was to stop")
            self.since = None
            self._own.leaving = False
            self._connections.stay()
        else:
            self._own.send_away()

    # The kubelet's hook ----------------------------------------------------------------------

    def is_hook(self, headers: Mapping[str, str]) -> bool:
        """Whether a request is the hook of this pod's template, which carries what no client
        knows."""
        return hmac.compare_digest(headers.get(HEADER_LEAVES, "").encode(), self._secret.encode())

    def hook(self, client: ClientConnection) -> "Hook":
        """The engine's container is about to be stopped: leave, and answer when it is free."""
        self.begin("the engine's container is about to be stopped", final=False)
        return Hook(self, client, self._loop)

    async def freed(self) -> None:
        """Wait until the engine has nothing to do, or until the time is over. One that is not well
        will finish nothing: it is stopped because of that, perhaps."""
        own = self._own
        while own.busy and own.healthy and self._loop.time() < self.end:  # noqa: ASYNC110 - seldom
            await asyncio.sleep(POLL_SECONDS)
        if own.busy:
            why = "the drain time is over" if own.healthy else "it is not well"
            _log.warning("the engine is stopped with %d sequences: %s", own.busy, why)
        self._freed_at = self._loop.time()


class Hook:
    """The kubelet, waiting until it may stop the engine."""

    def __init__(
        self, leaving: Leaving, client: ClientConnection, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._leaving = leaving
        self._client = client
        self._task = loop.create_task(self._run())

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await self._leaving.freed()
            self._client.respond(200, b'{"status":"the engine is free"}')

    def client_gone(self) -> None:
        self._task.cancel()

    def client_slow(self) -> None:
        """One write: nothing to hold back."""

    def client_ready(self) -> None:
        """One write: nothing was held back."""
