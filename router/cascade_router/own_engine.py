"""This pod's engine: the book of its load, its health, and its address.

All requests of the engine pass this sidecar, so the book is exact. Fronts ask for it by bids.
"""

import asyncio
import contextlib
import logging
from typing import Final

import msgspec

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import Booking, InstanceLoad, LoadLedger
from cascade_policy.price import has_risen, price
from cascade_policy.profiles import profile
from cascade_policy.stage_map import StageMap
from cascade_router.calls import fetch
from cascade_router.http1 import request_bytes
from cascade_router.pool import Pool
from cascade_router.upstream import NoConnection, Unreachable

PROBE_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = 3.0
FAILURES_TO_UNHEALTHY: Final = 3
"""A busy engine may miss a probe; a dead one refuses connections, which counts at once."""

_log = logging.getLogger(__name__)


class OwnEngine:
    """The engine behind this sidecar."""

    def __init__(self, pool: Pool, address: str, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.healthy = False
        self._pool = pool
        self._loop = loop
        self._failures = 0
        self._wake = asyncio.Event()
        self._stage_map: StageMap | None = None
        # Until a stage map tells the real model, any will do: the book only needs one to exist.
        self._model: EngineModel = profile("h100-8b")
        self._ledger = LoadLedger(self._model, loop.time())

    def use(self, stage_map: StageMap) -> None:
        """Price with the model of a new stage map."""
        self._stage_map = stage_map
        self._model = stage_map.engine
        self._ledger.set_model(stage_map.engine)

    def book(self, length: int) -> Booking:
        """Enter a sequence of `length` tokens; whoever books must finish the booking."""
        return self._ledger.book(length, self._loop.time())

    def load(self) -> InstanceLoad:
        """The load now."""
        return self._ledger.load(self._loop.time())

    def bid(self) -> bytes:
        """The answer to a bid: the load, from which the asking front computes its price."""
        return msgspec.json.encode(self.load().to_wire())

    def has_risen(self, bid: float, length: int, remaining: float) -> bool:
        """Whether the price of a sequence rose so far since it was bid that its front should ask
        again."""
        if self._stage_map is None:
            return False
        target = self._stage_map.tpot_target_ms
        return has_risen(bid, price(self.load(), self._model, length, remaining, target))

    def suspect(self) -> None:
        """A call to the engine broke: probe now, whether it died or only that call."""
        self._wake.set()

    async def watch(self) -> None:
        """Probe the engine's health until cancelled."""
        while True:
            self._wake.clear()
            await self._probe()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._wake.wait()

    async def _probe(self) -> None:
        request = request_bytes("GET", "/health", self.address, (), b"")
        try:
            status, _, _ = await fetch(self._pool, self.address, request, PROBE_TIMEOUT_SECONDS)
        except NoConnection:
            self._probed(False, weight=FAILURES_TO_UNHEALTHY)
        except Unreachable:
            self._probed(False, weight=1)
        else:
            self._probed(status == 200, weight=1)

    def _probed(self, good: bool, weight: int) -> None:
        self._failures = 0 if good else self._failures + weight
        healthy = good or (self.healthy and self._failures < FAILURES_TO_UNHEALTHY)
        if healthy != self.healthy:
            _log.warning("the engine at %s is %s", self.address, "up" if healthy else "down")
        self.healthy = healthy
