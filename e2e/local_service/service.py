"""Engines behind real routers, as processes on loopback, without Kubernetes. The engines are
simulators unless a plan says otherwise.

The routers read members and stage map from a file that this module writes, so a pod's move to
another stage is one rewrite of it.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from cascade_policy import names
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from cascade_policy.stage_map import Stage, StageMap
from e2e.local_service.engines import EngineKind, SimulatedEngine

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 10.0
LOG_TAIL_BYTES = 2000


class ServiceFailed(Exception):
    """A process did not start or ended too early; the message holds its last words."""


@dataclass(frozen=True)
class ServicePlan:
    """What to start. `stages` holds the stage of each instance, `ends` the greatest length
    (tokens) of each stage but the last."""

    stages: Sequence[int] = (0,)
    ends: Sequence[int] = ()
    model: str = "demo-model"
    max_length: int = 16384
    coefficients: Mapping[str, float] = field(default_factory=dict)
    """Of the engines and of the routers' model of them, over the profile `simulated`."""
    stage_map: Callable[[StageMap], StageMap] = lambda stage_map: stage_map
    """A last change to the stage map: boundaries, hand-over, targets."""
    engine_arguments: Sequence[str] = ()
    """Of engine simulators."""
    engine: EngineKind | None = None
    """Another engine; None: the simulator."""
    engine_count: int | None = None
    """Engines, if fewer than instances: instance i has engine i modulo this, so that a chain of
    stages needs few engines."""
    router_environment: Mapping[str, str] = field(default_factory=dict)

    def engine_kind(self) -> EngineKind:
        """How engines are started."""
        return self.engine or SimulatedEngine(self.coefficients, self.engine_arguments)

    def engine_model(self) -> EngineModel:
        """What a step costs."""
        return EngineModel.from_json({**profile("simulated").to_json(), **self.coefficients})

    def map(self, plan_id: str = "local") -> StageMap:
        """The stage map of these stages."""
        starts = [0, *(end + 1 for end in self.ends)]
        ranges = enumerate(zip(starts, [*self.ends, self.max_length], strict=True))
        return self.stage_map(
            StageMap(
                plan_id=plan_id,
                time="2026-01-01T00:00:00Z",
                model=self.model,
                max_length=self.max_length,
                engine=self.engine_model(),
                stages=tuple(Stage(i, low, high, f"local-stage-{i}") for i, (low, high) in ranges),
            )
        )


@dataclass
class LocalProcess:
    """One process, its address and its log."""

    name: str
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, to its children as well: they are in a session of their own."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def last_words(self) -> str:
        """The end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")


class LocalService:
    """Running instances: `routers[i]` before `engines[i % len(engines)]`. Make one with
    `local_service`."""

    def __init__(self, plan: ServicePlan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.engines: list[LocalProcess] = []
        self.routers: list[LocalProcess] = []
        self._stages = list(plan.stages)
        self._gone: set[int] = set()

    @property
    def urls(self) -> list[str]:
        """Where clients reach each router."""
        return [router.url for router in self.routers]

    def move(self, instance: int, stage: int) -> None:
        """Let an instance serve another stage, as a relabelled pod does."""
        self._stages[instance] = stage
        self._publish()

    def remove(self, instance: int) -> None:
        """Take an instance out of the view, as a pod that terminates leaves its slices."""
        self._gone.add(instance)
        self._publish()

    def replan(self, plan: ServicePlan) -> None:
        """Give the routers another stage map."""
        self.plan = replace(self.plan, ends=plan.ends, stage_map=plan.stage_map)
        self._publish()

    def start(self) -> None:
        """Start everything and wait until every router is ready."""
        routers = len(self._stages)
        engines = self.plan.engine_count or routers
        ports = _free_ports(engines + routers)
        for number, port in enumerate(ports[:engines]):
            self.engines.append(self._start_engine(number, port))
        for number, port in enumerate(ports[engines:]):
            self.routers.append(self._start_router(number, ports[number % engines], port))
        self._publish()
        for router in self.routers:
            _wait_ready(router, self.engines, self.plan.engine_kind().start_seconds)

    def stop(self) -> None:
        """End all processes: routers first, so that they do not see engines die."""
        patience = self.plan.engine_kind().stop_seconds
        for router in self.routers:
            router.kill(signal.SIGKILL)
        if patience:
            _end_gently(self.engines, patience)
        for engine in self.engines:
            engine.kill(signal.SIGKILL)
        for process in [*self.routers, *self.engines]:
            process.process.wait(STOP_SECONDS)

    def _start_engine(self, number: int, port: int) -> LocalProcess:
        start = self.plan.engine_kind().start(self.plan.model, self.plan.max_length, port)
        return self._start(f"engine-{number}", port, start.command, start.environment)

    def _start_router(self, number: int, engine_port: int, port: int) -> LocalProcess:
        key = self.folder / "hop-key"
        if not key.exists():
            key.write_text(secrets.token_hex(32))
        environment = {
            names.ENV_NAMESPACE: "local",
            names.ENV_SERVICE: "local",
            names.ENV_SERVICE_UID: "local",
            names.ENV_POD_NAME: f"pod-{number}",
            names.ENV_POD_IP: "127.0.0.1",
            names.ENV_HOP_SECRET_FILE: str(key),
            names.ENV_ENGINE_URL: f"http://127.0.0.1:{engine_port}",
            names.ENV_LISTEN: f"127.0.0.1:{port}",
            "CASCADE_VIEW_FILE": str(self._view_file),
            "CASCADE_LOG_LEVEL": "WARNING",
            **self.plan.router_environment,
        }
        command = [sys.executable, "-m", "cascade_router"]
        return self._start(f"router-{number}", port, command, environment)

    def _start(
        self, name: str, port: int, command: Sequence[str], environment: Mapping[str, str]
    ) -> LocalProcess:
        log = self.folder / f"{name}.log"
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "operator", ROOT / "router")))
        with log.open("wb") as out:
            process = _spawn(command, {**os.environ, "PYTHONPATH": paths, **environment}, out)
        return LocalProcess(name, f"http://127.0.0.1:{port}", process, log)

    @property
    def _view_file(self) -> Path:
        return self.folder / "view.json"

    def _publish(self) -> None:
        members = [
            {
                "name": f"pod-{number}",
                "address": self.routers[number].url.removeprefix("http://"),
                "stage": stage,
            }
            for number, stage in enumerate(self._stages)
            if number not in self._gone
        ]
        view = {"stageMap": json.loads(self.plan.map().dumps()), "members": members}
        draft = self._view_file.with_suffix(".new")
        draft.write_text(json.dumps(view))
        draft.replace(self._view_file)


@contextmanager
def local_service(plan: ServicePlan) -> Iterator[LocalService]:
    """A running service, stopped at the end. Raises ServiceFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cascade-local-")))
        service = LocalService(plan, folder)
        stack.callback(service.stop)
        service.start()
        yield service


def _spawn(
    command: Sequence[str], environment: Mapping[str, str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _end_gently(processes: Sequence[LocalProcess], seconds: float) -> None:
    """Tell them to end, and wait for them so long."""
    for process in processes:
        process.process.terminate()
    deadline = time.monotonic() + seconds
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.process.wait(max(0.0, deadline - time.monotonic()))


def _wait_ready(router: LocalProcess, engines: Sequence[LocalProcess], seconds: float) -> None:
    opener = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + seconds
    said = "no answer"
    while time.monotonic() < deadline:
        for one in (router, *engines):
            if one.process.poll() is not None:
                raise ServiceFailed(
                    f"{one.name} ended with status {one.process.returncode}:\n{one.last_words()}"
                )
        try:
            with opener.open(router.url + "/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError) as error:
            said = str(error)
        time.sleep(0.05)
    raise ServiceFailed(f"{router.name} was not ready within {seconds:g} s: {said}")


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
