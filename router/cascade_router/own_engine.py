"""This pod's engine: its address, its health, and the book of what it has to do.

All requests of the engine pass this sidecar, so the book is exact. Fronts ask for offers.
"""

import asyncio
import contextlib
import logging
from dataclasses import asdict
from typing import Final

from cascade_policy.arrival import Arrival, Purpose, Question
from cascade_policy.instance_book import InstanceBook, Stay, Terms
from cascade_policy.load import InstanceLoad
from cascade_policy.offer import Offer
from cascade_policy.profiles import profile
from cascade_policy.stage_map import Handoff, StageMap
from cascade_policy.step_window import between
from cascade_router.announce import write_offer
from cascade_router.calls import Call
from cascade_router.engine_gauges import read_gauges
from cascade_router.engine_metrics import EngineMetrics
from cascade_router.errors import leaving_error, unwell_error
from cascade_router.http1 import JSON, request_bytes
from cascade_router.line import NobodyThere, Unreachable
from cascade_router.outbound import Outbound
from cascade_router.pool import Pool
from cascade_router.replies import Reply, reply

HEADER_REFUSED: Final = "x-cascade-refused"
"""On a refusal: why, a RefusalReason; the body is an offer then."""
_REFUSED: Final = 409
PROBE_SECONDS: Final = 1.0
PROBE_TIMEOUT_SECONDS: Final = 3.0
FAILURES_TO_UNHEALTHY: Final = 3
"""A busy engine may miss a probe; a dead one refuses connections, which counts at once."""
LOOK_SECONDS: Final = 0.1
WINDOW_SECONDS: Final = 1.0
"""Over which step times are averaged: tens of steps, so that it matters little when they began."""
GAUGES_EVERY: Final = 2
"""Probes between two looks at the engine's metrics: the page costs an engine milliseconds."""

_log = logging.getLogger(__name__)


class OwnEngine:
    """The engine behind this sidecar."""

    def __init__(
        self,
        pool: Pool,
        address: str,
        loop: asyncio.AbstractEventLoop,
        metrics: EngineMetrics,
        max_prefix_tokens: int | None = None,
    ) -> None:
        self.address = address
        self.healthy = False
        self.leaving = False
        """Whether this pod leaves: the engine gets nothing new."""
        self._pool = pool
        self._metrics = metrics
        self._loop = loop
        self._failures = 0
        self._wake = asyncio.Event()
        # Until a stage map tells the real terms, any will do: the book only needs some to exist.
        terms = Terms(profile("h100-8b"), Handoff(), 100.0)
        self._book = InstanceBook(terms, loop.time(), max_prefix_tokens)

    @property
    def available(self) -> bool:
        """Whether new sequences may be sent to it."""
        return self.healthy and not self.leaving

    @property
    def busy(self) -> int:
        """Sequences that it has to do."""
        return len(self._book.stays())

    def send_away(self) -> None:
        """Ask every sequence that can go on elsewhere to do so, one that stayed at the last time
        as well."""
        for stay in self._book.stays():
            if stay.can_go and stay.leave_please is not None:
                stay.leave_please(True)

    def use(self, stage_map: StageMap) -> None:
        """Judge by the terms of a new stage map."""
        self._book.use(Terms(stage_map.engine, stage_map.handoff, stage_map.tpot_target_ms))

    def load(self) -> InstanceLoad:
        """The load now."""
        return self._book.load(self._loop.time())

    def offer(self, question: Question) -> Offer:
        """The answer to a question of a front."""
        return self._book.offer(question, self._loop.time())

    def turned_away(self, arrival: Arrival) -> Reply | None:
        """The answer to a sequence that is not taken, with what it would have been offered; None
        when it is taken."""
        if not self.available and arrival.purpose is not Purpose.CONTROL:
            closed = leaving_error() if self.leaving else unwell_error()
            headers = {"content-type": JSON, **dict(closed.headers())}
            return Reply(closed.status, headers, closed.body())
        reason = self._book.refusal(arrival, self._loop.time())
        if reason is None:
            return None
        offer = self.offer(Question(arrival.length, arrival.prefix, arrival.sequence))
        headers = {"content-type": JSON, HEADER_REFUSED: reason.value}
        return Reply(_REFUSED, headers, write_offer(offer))

    def enter(self, arrival: Arrival) -> Stay:
        """Book a sequence; whoever enters one must let it leave."""
        self._metrics.arrived(arrival.purpose)
        return self._book.enter(arrival, self._loop.time())

    def describe(self) -> dict[str, object]:
        """The engine and its book, as `state_page` shows them."""
        state = self._book.state(self._loop.time())
        return {"address": self.address, "healthy": self.healthy, **asdict(state)}

    def suspect(self) -> None:
        """A call to the engine broke: probe now, whether it died or only that call."""
        self._wake.set()

    async def watch(self) -> None:
        """Probe the engine's health, and read its gauges, until cancelled."""
        probes = 0
        while True:
            self._wake.clear()
            await self._probe()
            if self.healthy and probes % GAUGES_EVERY == 0:
                await self._read_gauges()
            probes += 1
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._wake.wait()

    async def look_after_batch(self) -> None:
        """Ask sequences to leave before memory runs out, and note the pace of steps, until
        cancelled."""
        before = self._book.batch(self._loop.time(), 0.0)
        while True:
            due = self._loop.time() + LOOK_SECONDS
            await asyncio.sleep(LOOK_SECONDS)
            now = self._loop.time()
            if now - before.at >= WINDOW_SECONDS:
                after = self._book.batch(now, now - due)
                window = between(before, after)
                if window is not None:
                    self._metrics.stepped(window)
                before = after
            for stay in self._book.crowding(self._loop.time(), LOOK_SECONDS):
                if stay.leave_please is not None:
                    self._metrics.evicted()
                    stay.leave_please(False)

    async def ask(self, request: Outbound, seconds: float) -> Reply:
        """A control call to the engine. Raises Unreachable."""
        data = request_bytes(
            request.method, request.path, self.address, request.headers, request.body
        )
        return await reply(lambda sink: Call(self._pool, data, sink), seconds)

    async def _probe(self) -> None:
        try:
            answer = await self.ask(Outbound("/health", method="GET"), PROBE_TIMEOUT_SECONDS)
        except NobodyThere:
            self._probed(False, weight=FAILURES_TO_UNHEALTHY)
        except Unreachable:
            self._probed(False, weight=1)
        else:
            self._probed(answer.status == 200, weight=1)

    async def _read_gauges(self) -> None:
        before = self._book.computed_so_far(self._loop.time())
        try:
            answer = await self.ask(Outbound("/metrics", method="GET"), PROBE_TIMEOUT_SECONDS)
        except Unreachable:
            return  # The next probe tells whether it is there.
        gauges = read_gauges(answer.body) if answer.status == 200 else None
        if gauges is not None:
            self._book.measured(gauges, before, self._loop.time())

    def _probed(self, good: bool, weight: int) -> None:
        self._failures = 0 if good else self._failures + weight
        healthy = good or (self.healthy and self._failures < FAILURES_TO_UNHEALTHY)
        if healthy != self.healthy:
            _log.warning("the engine at %s is %s", self.address, "up" if healthy else "down")
            if not healthy:
                self._book.restarted()
        self.healthy = healthy
