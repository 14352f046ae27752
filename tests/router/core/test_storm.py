"""Whatever happens to requests, instances and engines: afterwards every book is at zero, and no
sequence was booked in two places."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from cascade_policy.arrival import Arrival, Purpose
from cascade_policy.instance_book import InstanceBook, Stay
from cascade_policy.ledger import Booking
from cascade_policy.stage_map import Boundaries
from tests.router.core.cluster import (
    FAST,
    MODEL,
    Cluster,
    Instance,
    Received,
    cluster,
    light_client,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop

CLIENTS = 24
REQUESTS = 8
STEADY = {**FAST, "baseMs": 3.0}
MESSAGE_SECONDS = 1.0
"""How long the word that a sequence has left may be on its way; a busy machine takes its time."""


@dataclass
class Bookings:
    """Who has booked which sequence, and since when."""

    now: Callable[[], float]
    open: dict[str, dict[Stay, float]] = field(default_factory=lambda: defaultdict(dict))
    count: int = 0
    doubled: list[tuple[str, float]] = field(default_factory=list)
    """Sequences that were in two books for longer than messages take."""

    def watch(self, patch: pytest.MonkeyPatch) -> None:
        """Note what any book takes, and lets go."""
        enter, leave = InstanceBook.enter, InstanceBook._left

        def entered(book: InstanceBook, arrival: Arrival, now: float) -> Stay:
            stay = enter(book, arrival, now)
            if arrival.purpose is not Purpose.WARM:
                self.count += 1
                self.open[arrival.sequence][stay] = self.now()
            return stay

        def left(
            book: InstanceBook, stay: Stay, arrival: Arrival, booking: Booking, now: float
        ) -> None:
            leave(book, stay, arrival, booking, now)
            if arrival.purpose is not Purpose.WARM:
                self._end(arrival.sequence, stay)

        patch.setattr(InstanceBook, "enter", entered)
        patch.setattr(InstanceBook, "_left", left)

    def _end(self, sequence: str, stay: Stay) -> None:
        places = self.open[sequence]
        began = places.pop(stay)
        overlaps = [self.now() - max(began, other) for other in places.values()]
        self.doubled += [(sequence, one) for one in overlaps if one > MESSAGE_SECONDS]


@dataclass
class Storm:
    """Clients of all kinds, and what befalls the service meanwhile; drawn from one seed."""

    service: Cluster
    random: Random
    statuses: list[int] = field(default_factory=list)
    over: bool = False

    async def run(self) -> None:
        """Until all clients are done."""
        fate = asyncio.create_task(self._fate())
        await asyncio.gather(*(self._client(number) for number in range(CLIENTS)))
        self.over = True
        await fate

    async def _client(self, number: int) -> None:
        random = Random(self.random.random())
        front = self.service[number % len(self.service.instances)]
        for _ in range(REQUESTS):
            with contextlib.suppress(httpx.HTTPError, _Gone):
                self.statuses.append((await self._request(random, front)).status)

    async def _request(self, random: Random, front: Instance) -> Received:
        body: dict[str, Any] = {
            "prompt": [9] * random.choice([1, 40, 90, 110, 400]),
            "max_tokens": random.choice([0, 1, 30, 150, 150, 300]),
            "ignore_eos": True,
        }
        if random.random() < 0.3:
            body["stop"] = ["~~~"]
        patience = random.randrange(60) if random.random() < 0.4 else None

        def read(got: Received) -> None:
            if patience is not None and len(got.events) > patience:
                raise _Gone

        if random.random() < 0.2:
            seconds = random.choice([0.02, 0.2, 20.0])
            async with light_client() as client:
                answer = await client.post(
                    front.url + "/v1/completions", json={"model": MODEL, **body}, timeout=seconds
                )
            return Received(answer.status_code)
        return await stream(front.url, "/v1/completions", body, on_event=read)

    async def _fate(self) -> None:
        """One thing after the other goes wrong, on any instance but the last."""
        for instance in self.service.instances:
            await self._reset(instance)
        deeds = [self._reset, self._refuse, self._relabel, self._hang, self._leave, self._vanish]
        died = False
        while not self.over:
            instance = self.random.choice(self.service.instances[:-1])
            if not died and len(self.statuses) > CLIENTS:
                died = True
                await instance.kill_engine()
            else:
                await self.random.choice(deeds)(instance)
            await asyncio.sleep(self.random.uniform(0.0, 0.1))
        self.service.publish()

    async def _reset(self, instance: Instance) -> None:
        faults = instance.engine.faults
        faults.reset_after_tokens, faults.reset_times = self.random.randrange(1, 40), 3

    async def _refuse(self, instance: Instance) -> None:
        faults = instance.engine.faults
        faults.status, faults.status_times = self.random.choice([429, 500, 503]), 3

    async def _relabel(self, instance: Instance) -> None:
        instance.stage = 1 - instance.stage
        self.service.publish()

    async def _hang(self, instance: Instance) -> None:
        instance.engine.faults.hang = True
        await asyncio.sleep(self.random.uniform(0.0, 0.2))
        instance.engine.set_faults(replace(instance.engine.faults, hang=False))

    async def _leave(self, instance: Instance) -> None:
        """It begins to leave, and stays after all."""
        own = instance.sidecar.tools.own
        own.leaving = True
        own.send_away()
        await asyncio.sleep(self.random.uniform(0.0, 0.2))
        own.leaving = False

    async def _vanish(self, instance: Instance) -> None:
        self.service.publish(without=[instance])
        await asyncio.sleep(self.random.uniform(0.0, 0.1))
        self.service.publish()


class _Gone(Exception):
    """The client goes away."""


def _nothing_is_left(instance: Instance) -> bool:
    """Beyond what `Cluster.settle` looks at: nothing waits, is half open, or is kept."""
    sidecar = instance.sidecar
    tools = sidecar.tools
    return (
        tools.own.busy == 0
        and tools.own._book.warming == 0
        and len(tools.waiting) == 0
        and sidecar.channels.busy() == 0
        and sidecar.connections.unread_bytes == 0
        and all(channel.idle for channel in tools.peers.channels())
    )


@pytest.mark.parametrize("seed", [1, 2, 3])
@on_uvloop
async def test_after_any_storm_every_account_is_at_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    bookings = Bookings(asyncio.get_running_loop().time)
    bookings.watch(monkeypatch)
    plan = stage_map(100, boundaries=Boundaries.SOFT)
    async with cluster(tmp_path, [0, 0, 1, 1], plan, coefficients=STEADY) as service:
        storm = Storm(service, Random(seed))
        await storm.run()
        await service.settle()
        for instance in service.instances:
            await until(partial(_nothing_is_left, instance), f"{instance.name} is at rest")
        assert not any(bookings.open.values())
        assert bookings.doubled == []
        assert bookings.count > 100
        assert {200, 400} <= set(storm.statuses)
        assert service.metric("cascade_requests_in_flight") == 0
        for outcome in ("completed", "cancelled", "rejected"):
            assert service.metric("cascade_requests_total", outcome=outcome) > 0
        assert service.metric("cascade_rescues_total", outcome="completed") > 0
