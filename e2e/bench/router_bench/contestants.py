"""What is measured: the way straight to the engine, ours with one and two hops, the others."""

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cascade_policy import names
from cascade_policy.profiles import profile
from cascade_policy.stage_map import Stage, StageMap
from e2e.bench.rivals import RIVALS, Rival, Server, running
from e2e.bench.rivals.process import HOST, free_ports, serving, started
from e2e.bench.router_bench import wire

ROOT: Final = Path(__file__).resolve().parents[3]
MAX_LENGTH: Final = 131072
DIRECT: Final = "direct"
OURS_1: Final = "ours-1-hop"
OURS_2: Final = "ours-2-hops"
BESIDE_1: Final = "beside-1-hop"
BESIDE_2: Final = "beside-2-hops"
AIOHTTP: Final = "aiohttp"
FRONT: Final = "front"
TARGET: Final = "target"
ROUTER: Final = "router"


@dataclass(frozen=True)
class Running:
    """A router that serves at `port`, and the first process of each of its roles."""

    port: int
    processes: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Contestant:
    """One way from the client to the engine. `start(engine's URL, folder)` runs it."""

    name: str
    start: Callable[[str, Path], AbstractContextManager[Running]]


def contestants(checkout: Path = ROOT, beside: Path | None = None) -> dict[str, Contestant]:
    """All of them by name; `checkout` is the repository whose router is ours, and the router of
    `beside` is measured as well."""
    all_of_them = (
        Contestant(DIRECT, _direct),
        Contestant(OURS_1, partial(_one_hop, checkout.resolve())),
        Contestant(OURS_2, partial(_two_hops, checkout.resolve())),
        *(
            Contestant(name, partial(start, beside.resolve()))
            for name, start in ((BESIDE_1, _one_hop), (BESIDE_2, _two_hops))
            if beside is not None
        ),
        *(Contestant(name, _rival(rival)) for name, rival in RIVALS.items()),
        Contestant(AIOHTTP, _aiohttp),
    )
    return {one.name: one for one in all_of_them}


@contextmanager
def engine(folder: Path) -> Iterator[Server]:
    """The engine of the bench, serving."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "e2e.bench.router_bench.backend", "--port", str(port)]
    with serving("engine", command, port, folder, ready="/health", environment=paths()) as server:
        yield server


@contextmanager
def _direct(engine_url: str, folder: Path) -> Iterator[Running]:  # noqa: ARG001
    port = urlsplit(engine_url).port
    assert port is not None
    yield Running(port, {})


@contextmanager
def _one_hop(checkout: Path, engine_url: str, folder: Path) -> Iterator[Running]:
    (port,) = free_ports(1)
    with _sidecar("front", port, port, engine_url, folder, checkout) as front:
        front.wait_until("/ready")
        yield Running(front.port, {FRONT: [front.pid]})


@contextmanager
def _two_hops(checkout: Path, engine_url: str, folder: Path) -> Iterator[Running]:
    front_port, target_port = free_ports(2)
    with (
        _sidecar("target", target_port, target_port, engine_url, folder, checkout) as target,
        _sidecar("front", front_port, target_port, engine_url, folder, checkout) as front,
    ):
        target.wait_until("/ready")
        front.wait_until("/ready")
        yield Running(front.port, {FRONT: [front.pid], TARGET: [target.pid]})


def _sidecar(
    name: str, port: int, member_port: int, engine_url: str, folder: Path, checkout: Path
) -> AbstractContextManager[Server]:
    """A router process that knows one member: the sidecar at `member_port`."""
    key = folder / "hop-key"
    if not key.exists():
        key.write_text(secrets.token_hex(32))
    view = folder / f"view-{port}.json"
    view.write_text(json.dumps(_view(member_port)))
    environment = {
        names.ENV_NAMESPACE: "bench",
        names.ENV_SERVICE: "bench",
        names.ENV_SERVICE_UID: "bench",
        names.ENV_POD_NAME: f"pod-{port}",
        names.ENV_POD_IP: HOST,
        names.ENV_HOP_SECRET_FILE: str(key),
        names.ENV_ENGINE_URL: engine_url,
        names.ENV_LISTEN: f"{HOST}:{port}",
        "CASCADE_VIEW_FILE": str(view),
        "CASCADE_LOG_LEVEL": "WARNING",
        **paths(checkout),
    }
    command = [sys.executable, "-m", "cascade_router"]
    return started(name, command, port, folder, environment=environment)


def _view(member_port: int) -> dict[str, object]:
    """One stage, one instance that is never full."""
    model = replace(profile("h100-8b"), max_sequences=100_000, kv_capacity_tokens=1_000_000_000)
    stage_map = StageMap(
        plan_id="bench",
        time="2026-01-01T00:00:00Z",
        model=wire.MODEL,
        max_length=MAX_LENGTH,
        engine=model,
        stages=(Stage(0, 0, MAX_LENGTH, "bench-stage-0"),),
    )
    member = {"name": f"pod-{member_port}", "address": f"{HOST}:{member_port}", "stage": 0}
    return {"stageMap": json.loads(stage_map.dumps()), "members": [member]}


def _rival(rival: Rival) -> Callable[[str, Path], AbstractContextManager[Running]]:
    @contextmanager
    def start(engine_url: str, folder: Path) -> Iterator[Running]:
        with running(rival, [engine_url], folder) as server:
            yield Running(server.port, {ROUTER: [server.pid]})

    return start


@contextmanager
def _aiohttp(engine_url: str, folder: Path) -> Iterator[Running]:
    (port,) = free_ports(1)
    module = "e2e.bench.router_bench.proxy"
    command = [sys.executable, "-m", module, "--port", str(port), "--engine", engine_url]
    with serving(AIOHTTP, command, port, folder, ready="/health", environment=paths()) as server:
        yield Running(server.port, {ROUTER: [server.pid]})


def paths(checkout: Path = ROOT) -> dict[str, str]:
    """An environment in which Python finds the packages of `checkout`."""
    parts = (checkout, checkout / "operator", checkout / "router")
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}
