"""The client of one cell: `python -m e2e.bench.router_bench.load JSON`, figures as JSON on stdout.

A process of its own, so that nothing else shares its loop. It opens all streams, lets the engine
go on with each in turn in the paces that are asked for, and reads the processes' CPU time between
two moments in which all streams are open and no event is under way.
"""

import asyncio
import gc
import json
import os
import sys
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, Final

import uvloop

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.measurement import quantiles
from e2e.bench.router_bench.processes import cpu_time, family, memory, open_files
from e2e.bench.router_bench.streams import Connection, Tally, completion, connect, control

OPENING: Final = 64
OPEN_SECONDS: Final = 120.0
FINISH_SECONDS: Final = 60.0
KEEPING_ALIVE: Final = {"mode": wire.STEP, "gap": 5.0}
"""While streams are being opened: a router may take silence for a lost engine."""
MAX_TOKENS: Final = 10_000_000
CLIENT: Final = "client"


@dataclass(frozen=True)
class Order:
    """What a client has to do. `processes` names the first pids of each role."""

    port: int
    engine_port: int
    streams: int
    heads: tuple[int, int] = (1, 64)
    """Least and most events with which streams begin; spread evenly over them."""
    opening: int = OPENING
    """Streams that are opened at the same time, each until it has what it begins with."""
    rate: float = 5000.0
    seconds: float = 8.0
    paces: Sequence[str] = (wire.STEP, wire.SPREAD)
    probes: int = 40
    settle: float = 1.0
    """Seconds from the first event of a pace to the first reading."""
    requests: int = 0
    """Connections that send unstreamed requests, one after the other; then nothing else is done."""
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def gap(self) -> float:
        """Seconds between two events of a stream."""
        return self.streams / self.rate


class NotOpened(Exception):
    """The streams could not all be opened."""


class Load:
    """The work of one client."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._tally = Tally()
        self._streams: list[Connection] = []
        self._answers: list[asyncio.Future[None]] = []
        self._families: dict[str, list[int]] = {}

    async def streams(self) -> dict[str, Any]:
        """Figures of open streams."""
        order = self._order
        await self._open()
        self._families = {role: family(pids) for role, pids in order.processes.items()}
        self._families[CLIENT] = [os.getpid()]
        paces = {pace: await self._steady(pace) for pace in order.paces}
        held = memory_of(self._families)
        finished = json.loads(await control(order.engine_port, wire.FINISH, {}))
        await asyncio.wait(self._answers, timeout=FINISH_SECONDS)
        lost = sum(not stream.complete for stream in self._streams)
        await asyncio.gather(*(stream.close() for stream in self._streams))
        return {
            "paces": paces,
            "memory": held,
            "events": self._tally.events,
            "eventsSent": finished["events"],
            "streamsWithIds": finished["streamsWithIds"],
            "lostStreams": lost,
            "wrong": dict(self._tally.wrong),
        }

    async def unstreamed(self) -> dict[str, Any]:
        """Figures of short unstreamed requests."""
        order = self._order
        self._families = {role: family(pids) for role, pids in order.processes.items()}
        self._families[CLIENT] = [os.getpid()]
        request = completion(1, 16, stream=False)
        lanes = [await connect(order.port, self._tally) for _ in range(order.requests)]
        taken: list[int] = []
        running = [asyncio.ensure_future(self._lane(lane, request, taken)) for lane in lanes]
        await asyncio.sleep(order.settle)
        taken.clear()
        before, began = self._cpu(), monotonic()
        await asyncio.sleep(order.seconds)
        after, seconds, done = self._cpu(), monotonic() - began, list(taken)
        for task in running:
            task.cancel()
        await asyncio.gather(*(lane.close() for lane in lanes))
        return {
            "perSecond": len(done) / seconds,
            "latencyUs": asdict(quantiles(done)),
            "cpu": _used(before, after, len(done)),
            "wrong": dict(self._tally.wrong),
        }

    async def _lane(self, lane: Connection, request: bytes, taken: list[int]) -> None:
        while not self._tally.wrong:
            began = wire.now_us()
            await lane.send(request)
            taken.append(wire.delay_us(began, wire.now_us()))

    async def _open(self) -> None:
        """Open all streams; each is open when it has the events that it begins with."""
        await control(self._order.engine_port, wire.PACE, KEEPING_ALIVE)
        heads = iter(_heads(*self._order.heads, self._order.streams))
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.gather(*(self._open_some(heads) for _ in range(self._order.opening)))
        except TimeoutError:
            raise NotOpened(
                f"only {len(self._streams)} streams were open after {OPEN_SECONDS:g} s"
            ) from None
        except OSError as error:
            raise NotOpened(f"only {len(self._streams)} streams were open: {error}") from None

    async def _open_some(self, heads: Iterator[int]) -> None:
        for head in heads:
            stream = await connect(self._order.port, self._tally)
            self._streams.append(stream)
            self._answers.append(stream.send(completion(head, MAX_TOKENS, stream=True)))
            await stream.reached(head)

    async def _steady(self, pace: str) -> dict[str, Any]:
        order, tally = self._order, self._tally
        await control(order.engine_port, wire.PACE, {"mode": pace, "gap": order.gap()})
        await asyncio.sleep(order.settle + order.gap())
        await self._quiet(pace)
        tally.delays = array("l")
        tally.recording = True
        before, events, began = self._cpu(), tally.events, monotonic()
        await asyncio.sleep(order.seconds)
        await self._quiet(pace)
        after, events, seconds = self._cpu(), tally.events - events, monotonic() - began
        tally.recording = False
        probes = await self._probes()
        return {
            "seconds": seconds,
            "events": events,
            "cpu": _used(before, after, events),
            "delayUs": asdict(quantiles(tally.delays)),
            "ttftUs": probes,
        }

    async def _quiet(self, pace: str) -> None:
        """Wait for a moment between two steps, where steps are long enough to have one."""
        gap = self._order.gap()
        if pace != wire.STEP or gap < 0.02:
            return
        deadline = monotonic() + 2 * gap
        while monotonic() - self._tally.newest < gap / 4 and monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _probes(self) -> dict[str, float] | None:
        """How long a stream takes to its first event, one after the other beside all others."""
        taken = []
        for _ in range(self._order.probes):
            began = wire.now_us()
            probe = await connect(self._order.port, self._tally)
            await probe.send(completion(1, 1, stream=True))
            if probe.complete and probe.first_us is not None:
                taken.append(wire.delay_us(began, probe.first_us))
            await probe.close()
            await asyncio.sleep(0.02)
        return asdict(quantiles(taken)) if taken else None

    def _cpu(self) -> Mapping[str, Any]:
        return {role: cpu_time(pids) for role, pids in self._families.items()}


def memory_of(families: Mapping[str, Sequence[int]]) -> dict[str, dict[str, float]]:
    """Memory and open files by role."""
    return {
        role: {**asdict(memory(pids)), "open_files": open_files(pids)}
        for role, pids in families.items()
    }


def _used(before: Mapping[str, Any], after: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Microseconds of CPU for each of `count` events, and the kernel's share, by role."""
    used = {role: after[role].since(before[role]) for role in after}
    return {
        role: {"us": microseconds / max(1, count), "kernel": kernel}
        for role, (microseconds, kernel) in used.items()
    }


def _heads(least: int, most: int, streams: int) -> list[int]:
    """What each stream begins with: all numbers in between, as evenly as there are streams."""
    span = most - least + 1
    return [least + span * number // streams for number in range(streams)]


def main() -> None:
    order = Order(**json.loads(sys.argv[1]))
    load = Load(order)
    gc.collect()
    gc.disable()
    try:
        figures = uvloop.run(load.unstreamed() if order.requests else load.streams())
    except NotOpened as error:
        sys.exit(str(error))
    json.dump(figures, sys.stdout)


if __name__ == "__main__":
    main()
