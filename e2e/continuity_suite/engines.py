"""The engines behind a server: how much they run, and faults of engine simulators."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from e2e.continuity_suite.wire import Client

_RUNNING: Final = re.compile(
    rb"^(?:vllm:num_requests_(?:running|waiting)|sglang:num_(?:running|queue)_reqs)"
    rb"(?:\{[^}]*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)
_FAULTS: Final = "/simulator/faults"
_LEFT: Final = ("dropTimes", "statusTimes", "resetTimes")
_LOOK_SECONDS: Final = 0.02


class Engines:
    """Some engines, reached directly."""

    def __init__(self, clients: Sequence[Client], *, take_faults: bool) -> None:
        self.clients = clients
        self.take_faults = take_faults

    @classmethod
    async def at(cls, urls: Sequence[str]) -> "Engines":
        """The engines at these addresses."""
        clients = [Client(url) for url in urls]
        answers = await asyncio.gather(*(client.get(_FAULTS) for client in clients))
        return cls(clients, take_faults=all(answer.status == 200 for answer in answers))

    async def running(self) -> int:
        """Sequences that run or wait in all of them; engines that are gone have none."""
        pages = await asyncio.gather(*(client.get("/metrics") for client in self.clients))
        return int(sum(float(value) for page in pages for value in _RUNNING.findall(page.body)))

    async def until_idle(self, seconds: float) -> int:
        """Wait until nothing runs; what still runs after `seconds`."""
        return await self._until(seconds, idle=True)

    async def until_running(self, seconds: float) -> int:
        """Wait until something runs."""
        return await self._until(seconds, idle=False)

    async def _until(self, seconds: float, *, idle: bool) -> int:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            left = await self.running()
            if bool(left) is not idle or loop.time() >= deadline:
                return left
            await asyncio.sleep(_LOOK_SECONDS)

    async def set_fault(self, engine: Client, fault: Mapping[str, Any]) -> None:
        """Let something go wrong in one engine."""
        await engine.post(_FAULTS, fault)

    async def clear_fault(self, engine: Client) -> bool:
        """End it; whether it has struck."""
        faults = json.loads((await engine.get(_FAULTS)).body)
        await engine.post(_FAULTS, {})
        counts = {name: faults[name] for name in _LEFT if faults.get(name) is not None}
        return bool(counts) and all(value == 0 for value in counts.values())
