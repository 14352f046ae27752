"""Real engines behind real routers, and one asked without any, to be judged by."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cascade_policy.stage_map import WARM, Boundaries, Handoff, StageMap
from e2e.bench.rivals.process import Server, free_ports, started
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.judge import Target
from e2e.continuity_suite.targets import killer
from e2e.continuity_suite.wire import Client
from e2e.local_service.engines import EngineKind
from e2e.local_service.service import LocalService, ServicePlan, local_service

MODEL: Final = "tiny"
MAX_LENGTH: Final = 16384
STAGES: Final = 6
"""One router each; they share the engines in turn, so every hand-over goes to another engine."""
CLOSE_ENDS: Final = (40, 64, 88, 112, 136)
"""For the suite, whose streams are a hundred tokens long: two to four hand-overs."""
WIDE_ENDS: Final = (96, 192, 288, 384, 480)
"""For a chosen number of hand-overs: a stage lasts longer than it takes to prepare the next."""
SLICE_TOKENS: Final = 16
_ROUTERS: Final = {"CASCADE_BID_DEADLINE_MS": "1000"}
"""A busy machine must not change who is asked."""


@dataclass(frozen=True)
class Real:
    """What runs."""

    service: LocalService
    alone: str
    """URL of the engine that is asked without a router."""

    @property
    def router(self) -> Client:
        """Of the first stage."""
        return Client(self.service.urls[0])

    @property
    def reference(self) -> Client:
        """The engine alone."""
        return Client(self.alone)

    async def target(self) -> Target:
        """For the suite."""
        engines = self.service.engines
        behind = await Engines.at([engine.url for engine in engines])
        return Target(self.router, MODEL, self.reference, behind, killer(engines))

    def use_ends(self, ends: Sequence[int]) -> None:
        """Give the stages other ends."""
        self.service.replan(replace(self.service.plan, ends=ends))


@asynccontextmanager
async def real_service(kind: EngineKind, engines: int, *, apart: bool) -> AsyncIterator[Real]:
    """So many engines behind routers, and one `apart` from them that none of these uses;
    without, the first one of them is asked directly. Raises ServiceFailed or NotServing."""
    with ExitStack() as stack:
        beside = stack.enter_context(_started(kind)) if apart else None
        service = stack.enter_context(local_service(_plan(kind, engines)))
        if beside is not None:
            beside.wait_until("/health", kind.start_seconds)
        yield Real(service, service.engines[0].url if beside is None else beside.url)


@contextmanager
def _started(kind: EngineKind) -> Iterator[Server]:
    """An engine without a router; not waited for."""
    (port,) = free_ports(1)
    start = kind.start(MODEL, MAX_LENGTH, port)
    with TemporaryDirectory(prefix="cascade-engine-") as folder:
        server = started(
            "engine", start.command, port, Path(folder), environment=start.environment,
            stop_seconds=kind.stop_seconds,
        )  # fmt: skip
        with server as running:
            yield running


def _plan(kind: EngineKind, engines: int) -> ServicePlan:
    """`STAGES` stages; ranges bind, so that lengths decide alone."""
    return ServicePlan(
        stages=range(STAGES),
        ends=CLOSE_ENDS,
        model=MODEL,
        max_length=MAX_LENGTH,
        stage_map=_hard,
        engine=kind,
        engine_count=engines,
        router_environment=_ROUTERS,
    )


def _hard(stage_map: StageMap) -> StageMap:
    handoff = Handoff(transport=WARM, slice_tokens=SLICE_TOKENS)
    return replace(stage_map, boundaries=Boundaries.HARD, handoff=handoff)


@contextmanager
def serving_alone(kind: EngineKind) -> Iterator[Server]:
    """An engine without a router. Raises NotServing."""
    with _started(kind) as server:
        server.wait_until("/health", kind.start_seconds)
        yield server
