"""The client of many streams for a long time: `python -m e2e.bench.router_bench.soak_client JSON`.

So many streams are open at any time; each that ends is followed by a new one, so that what the
router holds stays level. Each line on stdout is a sample as JSON; the last one has `"end": true`.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from time import monotonic
from typing import Any, Final

import uvloop

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.load import OPENING, memory_of
from e2e.bench.router_bench.processes import family
from e2e.bench.router_bench.streams import Connection, Tally, completion, connect, control

LEAST_TOKENS: Final = 100
MOST_TOKENS: Final = 200
ANSWERS_PER_CONNECTION: Final = 4
SAMPLE_SECONDS: Final = 5.0
END_SECONDS: Final = 60.0
CLOSE_SECONDS: Final = 90.0
"""For idle connections to be closed: a router's own limit is 75 s."""


@dataclass(frozen=True)
class SoakOrder:
    """What the client has to do. `processes` names the first pids of each role."""

    port: int
    engine_port: int
    streams: int
    rate: float
    seconds: float
    processes: Mapping[str, Sequence[int]] = field(default_factory=dict)


class Soak:
    """The work of the client."""

    def __init__(self, order: SoakOrder) -> None:
        self._order = order
        self._tally = Tally()
        self._families = {role: family(pids) for role, pids in order.processes.items()}
        self._opening = asyncio.Semaphore(OPENING)
        self._open = 0
        self._ended = 0
        self._lost = 0
        self._stopping = False

    async def run(self) -> None:
        """Hold the streams and tell of it."""
        order = self._order
        before = self._memory()
        gap = order.streams / order.rate
        await control(order.engine_port, wire.PACE, {"mode": wire.STEP, "gap": gap})
        lanes = [asyncio.ensure_future(self._lane(number)) for number in range(order.streams)]
        while self._open < order.streams and not self._failed:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        began = monotonic()
        while monotonic() - began < order.seconds and not self._failed:
            self._tell({"seconds": round(monotonic() - began, 1), "memory": self._memory()})
            await asyncio.sleep(SAMPLE_SECONDS)
        sent = await self._finish(lanes)
        self._tell(
            {
                "end": True,
                "seconds": round(monotonic() - began, 1),
                "before": before,
                "memory": await self._closed(before),
                "lostStreams": self._lost,
                "eventsSent": sent,
            }
        )

    async def _finish(self, lanes: Sequence["asyncio.Future[None]"]) -> int:
        """Let all streams end; how many events the engine has sent in all."""
        self._stopping = True
        sent, waiting, deadline = 0, set(lanes), monotonic() + END_SECONDS
        while waiting and monotonic() < deadline:
            # Again and again: requests may still have been on their way.
            finished = json.loads(await control(self._order.engine_port, wire.FINISH, {}))
            sent = finished["events"]
            _, waiting = await asyncio.wait(waiting, timeout=0.5)
        for lane in waiting:
            lane.cancel()
        self._lost += len(waiting)
        return sent

    @property
    def _failed(self) -> bool:
        return bool(self._tally.wrong)

    async def _lane(self, number: int) -> None:
        """One stream after the other."""
        random = Random(number)
        connection: Connection | None = None
        answers = 0
        while not self._stopping:
            length = random.randint(LEAST_TOKENS, MOST_TOKENS)
            # The first one begins where it would be if all this had gone on for long.
            head = 1 if answers else 1 + length * number // self._order.streams
            async with self._opening:
                if connection is None:
                    connection = await connect(self._order.port, self._tally)
                answer = connection.send(completion(head, max(head + 1, length), stream=True))
                await connection.reached(head)
            self._open += not answers
            answers += 1
            await answer
            self._ended += 1
            if not connection.complete:
                self._lost += 1
                break
            if answers % ANSWERS_PER_CONNECTION == 0:
                await connection.close()
                connection = None
        if connection is not None:
            await connection.close()

    async def _closed(self, before: Mapping[str, Any]) -> dict[str, dict[str, float]]:
        """Memory and files when as many files are open as before, or that takes too long."""
        deadline = monotonic() + CLOSE_SECONDS
        now = self._memory()
        while monotonic() < deadline and any(
            now[role]["open_files"] > before[role]["open_files"] for role in before
        ):
            await asyncio.sleep(1.0)
            now = self._memory()
        return now

    def _memory(self) -> dict[str, dict[str, float]]:
        return memory_of(self._families)

    def _tell(self, line: Mapping[str, Any]) -> None:
        counted = {
            "open": self._open,
            "answers": self._ended,
            "events": self._tally.events,
            "wrong": dict(self._tally.wrong),
        }
        print(json.dumps({**line, **counted}), flush=True)


def main() -> None:
    order = SoakOrder(**json.loads(sys.argv[1]))
    gc.collect()
    gc.freeze()
    uvloop.run(_run(order))


async def _run(order: SoakOrder) -> None:
    await Soak(order).run()


if __name__ == "__main__":
    main()
