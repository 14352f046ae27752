"""A service of several stages in one process, with an engine alone beside it, to be judged."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from cascade_policy.stage_map import StageMap
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.judge import Target
from e2e.continuity_suite.wire import Client
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving
from tests.router.core.cluster import FAST, MODEL, Cluster, cluster, stage_map

MAX_LENGTH = 16384
STAGES = (0, 0, 1, 2)
ENDS = (64, 112)
QUICK = {**FAST, "baseMs": 0.2}
ARGUMENTS = ("--coalesce-percent", "5", "--allow-faults", "--max-length", str(MAX_LENGTH))


@asynccontextmanager
async def lone_engine() -> AsyncIterator[str]:
    """An engine without a router; its URL."""
    coefficients = ("--coefficients", json.dumps(QUICK))
    options = read_options(["--model", MODEL, "--port", "0", *coefficients, *ARGUMENTS], {})
    async with serving(options) as (_, port):
        yield f"http://127.0.0.1:{port}"


@asynccontextmanager
async def judged_service(folder: Path) -> AsyncIterator[tuple[Target, Cluster]]:
    """What the suite judges, and the service behind it."""
    async with (
        lone_engine() as reference,
        cluster(folder, STAGES, _plan(), *ARGUMENTS, coefficients=QUICK) as service,
    ):
        engines = [f"http://127.0.0.1:{one.engine_port}" for one in service.instances]

        async def kill() -> None:
            busiest = max(service.instances, key=lambda one: len(one.engine.batch.running))
            await busiest.kill_engine()

        clients = Client(service[0].url), Client(reference)
        yield Target(clients[0], MODEL, clients[1], await Engines.at(engines), kill), service


def _plan() -> StageMap:
    plan = stage_map(*ENDS)
    *first, last = plan.stages
    return replace(
        plan, max_length=MAX_LENGTH, stages=(*first, replace(last, max_length=MAX_LENGTH))
    )
