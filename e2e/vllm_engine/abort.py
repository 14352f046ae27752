"""How soon an engine is free again after a client has left."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from e2e.continuity_suite.cases import COMPLETIONS
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.prompts import Prompts
from e2e.continuity_suite.wire import Client, LeaveNow, Received

LIMIT: Final = 0.2
"""Seconds."""
PROMPT_TOKENS: Final = 4000
_GIVEN_UP: Final = 10.0
_EVENTS: Final = 4
"""Of a stream after which the client leaves."""
_LOOK_SECONDS: Final = 0.005
_IN_USE: Final = re.compile(
    rb"^vllm:(?:num_requests_running|num_requests_waiting|kv_cache_usage_perc)"
    rb"(?:\{[^}]*\})? ([0-9.e+-]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Aborts:
    """Seconds until no engine runs or holds anything, of several clients."""

    name: str
    seconds: Sequence[float]
    look: float
    """What one look at all engines takes when they are idle: no time of theirs to get free."""

    @property
    def typical(self) -> float:
        """The median: a pause of a busy machine is no fault of the router."""
        return median(self.seconds)

    @property
    def allowed(self) -> float:
        """The limit, and the look that sees it kept."""
        return LIMIT + self.look

    @property
    def passed(self) -> bool:
        """Whether that is soon enough."""
        return self.typical <= self.allowed


async def aborts(
    router: Client, engines: Engines, model: str, prompts: Prompts, times: int
) -> Sequence[Aborts]:
    """Of streams and of unstreamed answers, through the router."""
    ask = prompts.of_length(PROMPT_TOKENS, 1, chat=False)
    body = {**ask.fields, "model": model, "max_tokens": 3000, "ignore_eos": True}
    looks = [await _until_free(engines) for _ in range(times)]
    streams, wholes = [], []
    for _ in range(times):
        streams.append(await _leave_stream(router, engines, {**body, "stream": True}))
        wholes.append(await _leave_whole(router, engines, {**body, "stream": False}))
    look = median(looks)
    return [Aborts("a stream", streams, look), Aborts("an unstreamed answer", wholes, look)]


async def _leave_stream(router: Client, engines: Engines, body: dict[str, Any]) -> float:
    await router.post(COMPLETIONS, body, watch=_leaver(_EVENTS))
    return await _until_free(engines)


async def _leave_whole(router: Client, engines: Engines, body: dict[str, Any]) -> float:
    asking = asyncio.ensure_future(router.post(COMPLETIONS, body))
    await engines.until_running(_GIVEN_UP)
    asking.cancel()
    await asyncio.wait([asking])
    return await _until_free(engines)


def _leaver(events: int) -> Callable[[Received], None]:
    def watch(received: Received) -> None:
        if received.events >= events:
            raise LeaveNow

    return watch


async def _until_free(engines: Engines) -> float:
    """Seconds until nothing runs, waits or holds KV blocks."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while await _held(engines):
        if loop.time() > began + _GIVEN_UP:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    return loop.time() - began


async def _held(engines: Engines) -> float:
    """Sequences that run or wait, and parts of KV caches that are in use, in all of them."""
    pages = await asyncio.gather(*(client.get("/metrics") for client in engines.clients))
    return sum(float(value) for page in pages for value in _IN_USE.findall(page.body))
