"""Services that the suite starts to judge: ours, another project's, and a broken one."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from cascade_policy.stage_map import WARM, Boundaries, Handoff, StageMap
from e2e.bench.rivals import RIVALS, running
from e2e.bench.rivals.process import free_ports, serving
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.judge import Target
from e2e.continuity_suite.relay import broken_relay
from e2e.continuity_suite.wire import Client
from e2e.local_service.service import ServicePlan, local_service

MODEL: Final = "demo-model"
MAX_LENGTH: Final = 16384
FAST: Final = {
    "baseMs": 1.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "heterogeneity": 0.0,
    "prefillMsPerToken": 0.001, "prefillMsPerTokenSquared": 0.0, "maxSequences": 512,
}  # fmt: skip
STAGES: Final = (0, 0, 1, 2)
ENDS: Final = (64, 112)
"""With outputs of a hundred tokens, every stream is handed over, most of them twice."""
COALESCED: Final = ("--coalesce-percent", "5")
PATIENCE_MS: Final = "200"
"""For bids: a busy machine must not change who is asked."""
NAMES: Final = ("cascade", "broken", *RIVALS)


@dataclass(frozen=True)
class Wanted:
    """What to start. `fault` is the broken relay's; `kill` lets an engine be killed."""

    name: str
    fault: str = "drop"
    kill: bool = False


class Killable(Protocol):
    """An engine that can be killed."""

    @property
    def url(self) -> str:
        """Where it is reached."""

    def kill(self) -> None:
        """End it, as nobody warns of it."""


@dataclass(frozen=True)
class _Engine:
    url: str
    end: Callable[[], None]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        self.end()


@asynccontextmanager
async def started(wanted: Wanted) -> AsyncIterator[Target]:
    """The service, with an engine alone beside it.

    Raises ServiceFailed, NotInstalled or NotServing.
    """
    with ExitStack() as stack:
        (reference,) = stack.enter_context(_engines(1))
        async with AsyncExitStack() as relays:
            url, engines = reference.url, [reference]
            if wanted.name == "broken":
                relay = broken_relay(reference.port, wanted.fault)
                url = await relays.enter_async_context(relay)
            elif wanted.name == "cascade":
                url, engines = stack.enter_context(_ours())
            else:
                url, engines = stack.enter_context(_other(wanted.name))
            yield Target(
                Client(url),
                MODEL,
                Client(reference.url),
                await Engines.at([engine.url for engine in engines]),
                killer(engines) if wanted.kill else None,
            )


@contextmanager
def _ours() -> Iterator[tuple[str, list[_Engine]]]:
    plan = ServicePlan(
        stages=STAGES,
        ends=ENDS,
        model=MODEL,
        max_length=MAX_LENGTH,
        coefficients=FAST,
        stage_map=_hard,
        engine_arguments=COALESCED,
        router_environment={"CASCADE_BID_DEADLINE_MS": PATIENCE_MS},
    )
    with local_service(plan) as service:
        yield service.urls[0], [_Engine(engine.url, engine.kill) for engine in service.engines]


@contextmanager
def _other(name: str) -> Iterator[tuple[str, list[_Engine]]]:
    with ExitStack() as stack:
        engines = stack.enter_context(_engines(2))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="continuity-")))
        urls = [engine.url for engine in engines]
        yield stack.enter_context(running(RIVALS[name], urls, folder)).url, engines


@contextmanager
def _engines(count: int) -> Iterator[list[_Engine]]:
    """Engine simulators without a router."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="continuity-")))
        engines = []
        for port in free_ports(count):
            options = [
                *("--model", MODEL, "--port", str(port), "--max-length", str(MAX_LENGTH)),
                *("--coefficients", json.dumps(FAST), "--allow-faults", *COALESCED),
            ]
            command = [sys.executable, "-m", "e2e.engine_simulator", *options]
            server = serving("engine", command, port, folder, ready="/health")
            process = stack.enter_context(server)
            engines.append(_Engine(process.url, process.process.kill))
        yield engines


def _hard(stage_map: StageMap) -> StageMap:
    return replace(
        stage_map, boundaries=Boundaries.HARD, handoff=Handoff(transport=WARM, slice_tokens=16)
    )


def killer(engines: Sequence[Killable]) -> Callable[[], Awaitable[None]]:
    """What kills the engine that runs the most sequences."""

    async def kill() -> None:
        alone = [Engines([Client(engine.url)], take_faults=False) for engine in engines]
        counts = [await one.running() for one in alone]
        engines[counts.index(max(counts))].kill()

    return kill
