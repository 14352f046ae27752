"""A small service in one process: real engines, real sidecars, real sockets on loopback."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import IDLE
from cascade_policy.profiles import profile
from cascade_policy.stage_map import Boundaries, Handoff, Stage, StageMap
from cascade_router.config import Config
from cascade_router.limits import Timing
from cascade_router.membership import Member, View
from cascade_router.sidecar import Sidecar
from e2e.engine_simulator.engine import Engine
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving

MODEL = "demo"
MAX_LENGTH = 4096
FAST: Mapping[str, float] = {
    "baseMs": 1.0,
    "perSequenceMs": 0.0,
    "perKvTokenMs": 0.0,
    "heterogeneity": 0.0,
    "prefillMsPerToken": 0.001,
    "prefillMsPerTokenSquared": 0.0,
    "maxSequences": 512,
}
PATIENT = Timing(bid_deadline=0.5, propagation=0.0)
"""A test machine may be busy; a late bid must not change who is chosen."""


def stage_map(
    *ends: int, boundaries: Boundaries = Boundaries.HARD, slice_tokens: int = 16, **changes: Any
) -> StageMap:
    """Stages that end at `ends` and, the last one, at MAX_LENGTH."""
    starts = [0, *(end + 1 for end in ends)]
    stages = [
        Stage(index, start, end, f"svc-stage-{index}")
        for index, (start, end) in enumerate(zip(starts, [*ends, MAX_LENGTH], strict=True))
    ]
    base = StageMap(
        plan_id="p",
        time="2026-01-01T00:00:00Z",
        model=MODEL,
        max_length=MAX_LENGTH,
        engine=fast_model(),
        stages=tuple(stages),
        boundaries=boundaries,
        handoff=Handoff(slice_tokens=slice_tokens),
    )
    return replace(base, **changes)


def fast_model() -> EngineModel:
    """The engine model of the engines here."""
    return EngineModel.from_json({**profile("simulated").to_json(), **FAST})


@dataclass
class Instance:
    """One pod: an engine and its sidecar."""

    name: str
    stage: int
    sidecar: Sidecar
    engine: Engine
    member: Member
    kill_engine: Callable[[], Any]
    engine_port: int

    @property
    def url(self) -> str:
        """Where clients reach this sidecar."""
        return f"http://{self.member.address}"


@dataclass
class Cluster:
    """All instances, and the view they share."""

    instances: list[Instance] = field(default_factory=list)
    stage_map: StageMap | None = None

    def publish(self, without: Sequence[Instance] = ()) -> None:
        """Tell every sidecar who is there."""
        members = tuple(
            replace(instance.member, stage=instance.stage)
            for instance in self.instances
            if instance not in without
        )
        for instance in self.instances:
            instance.sidecar.use(View(self.stage_map, members, instance.stage))

    def __getitem__(self, index: int) -> Instance:
        return self.instances[index]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over all sidecars, for samples with these labels."""
        total = 0.0
        for instance in self.instances:
            for line in instance.sidecar.tools.metrics_page().decode().splitlines():
                sample, _, value = line.rpartition(" ")
                wanted = all(f'{key}="{text}"' in sample for key, text in labels.items())
                if sample.partition("{")[0] == name and wanted:
                    total += float(value)
        return total

    async def settle(self) -> None:
        """Wait until no load, no stream and no running sequence is left anywhere."""
        await until(lambda: all(map(_at_rest, self.instances)), "all accounts are back at zero")


def _at_rest(instance: Instance) -> bool:
    sidecar = instance.sidecar
    load = sidecar.tools.own.load()
    counted = (load.sequences, load.kv_tokens, load.kv_tokens_squared, load.waiting_prefill_ms)
    idle = (IDLE.sequences, IDLE.kv_tokens, IDLE.kv_tokens_squared, IDLE.waiting_prefill_ms)
    batch = instance.engine.batch
    return (
        counted == idle
        and not sidecar.tools.sessions
        and sidecar.connections.busy() == 0
        and not batch.running
        and not batch.waiting
    )


@asynccontextmanager
async def cluster(
    folder: Path,
    stages: Sequence[int],
    plan: StageMap,
    *engine_arguments: str,
    timing: Timing = PATIENT,
    coefficients: Mapping[str, float] = FAST,
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[Cluster]:
    """Instances with these stages, all up and known to each other; `settings` are fields of the
    sidecars' Config."""
    key = folder / "hop-key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    service = Cluster(stage_map=plan)
    async with AsyncExitStack() as stack:
        for number, stage in enumerate(stages):
            options = read_options(
                ["--model", MODEL, "--port", "0", "--coalesce-percent", "0",
                 "--max-length", str(MAX_LENGTH),
                 "--coefficients", json.dumps({**FAST, **coefficients}), *engine_arguments],
                {},
            )  # fmt: skip
            engines = AsyncExitStack()
            engine, port = await engines.enter_async_context(serving(options))
            stack.push_async_exit(engines)
            config = replace(config_for(number, key, port), **(settings or {}))
            sidecar = Sidecar(config, timing)
            await sidecar.start()
            stack.push_async_callback(sidecar.stop)
            member = Member(config.pod_name, config.address, stage)
            service.instances.append(
                Instance(config.pod_name, stage, sidecar, engine, member, engines.aclose, port)
            )
        await until(
            lambda: all(instance.sidecar.tools.own.healthy for instance in service.instances),
            "all engines are healthy",
        )
        service.publish()
        yield service


def config_for(number: int, key: Path, engine_port: int) -> Config:
    """The settings of the sidecar of pod `number`."""
    return Config(
        namespace="ns",
        service="svc",
        service_uid="uid",
        pod_name=f"pod-{number}",
        pod_ip="127.0.0.1",
        stage_map_name="svc-stagemap",
        hop_key_file=key,
        engine_host="127.0.0.1",
        engine_port=engine_port,
        listen_host="127.0.0.1",
        listen_port=free_port(),
        drain_seconds=5,
    )


@asynccontextmanager
async def lone_sidecar(
    folder: Path,
    engine_port: int,
    plan: StageMap | None = None,
    timing: Timing = PATIENT,
    **settings: Any,
) -> AsyncIterator[tuple[Sidecar, str]]:
    """One sidecar before an engine that is already there, and its URL; `settings` are fields of
    its Config."""
    key = folder / "hop-key"
    key.write_bytes(b"0123456789abcdef0123456789abcdef")
    config = replace(config_for(0, key, engine_port), **settings)
    sidecar = Sidecar(config, timing)
    await sidecar.start()
    try:
        await until(lambda: sidecar.tools.own.healthy, "the engine is healthy")
        member = Member(config.pod_name, config.address, 0)
        sidecar.use(View(plan or stage_map(), (member,), 0))
        yield sidecar, f"http://{config.address}"
    finally:
        await sidecar.stop()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait for a condition; fails with `what` when it does not come true."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - the state of several objects is looked at
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


@dataclass
class Received:
    """What a client got."""

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    raw: bytes = b""
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    @property
    def choices(self) -> list[dict[str, Any]]:
        """All choices of all chunks."""
        return [choice for event in self.events for choice in event.get("choices", [])]

    @property
    def text(self) -> str:
        """The text, joined."""
        return "".join(
            choice["text"] if "text" in choice else choice["delta"].get("content") or ""
            for choice in self.choices
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids, joined."""
        return tuple(n for choice in self.choices for n in choice.get("token_ids") or ())

    @property
    def finish(self) -> list[str]:
        """The finish reasons."""
        return [c["finish_reason"] for c in self.choices if c["finish_reason"] is not None]

    @property
    def usage(self) -> list[dict[str, int]]:
        """The usage objects."""
        return [event["usage"] for event in self.events if event.get("usage")]

    @property
    def errors(self) -> list[dict[str, Any]]:
        """In-band errors."""
        return [event["error"] for event in self.events if "error" in event]


def light_client() -> httpx.AsyncClient:
    """A client that does not spend the time of a test on loading certificates."""
    return httpx.AsyncClient(timeout=30, verify=False, trust_env=False)


async def stream(
    url: str,
    path: str,
    body: Mapping[str, Any],
    headers: Mapping[str, str] | None = None,
    on_event: Callable[[Received], Any] | None = None,
) -> Received:
    """Send a streamed request and read it to its end; `on_event` may look at every event."""
    got = Received()
    async with (
        light_client() as client,
        client.stream(
            "POST", url + path, json={"model": MODEL, "stream": True, **body}, headers=headers
        ) as response,
    ):
        got.status, got.headers = response.status_code, response.headers
        if response.status_code != 200:
            got.raw = await response.aread()
            return got
        rest = b""
        async for data in response.aiter_raw():
            got.raw += data
            *whole, rest = (rest + data).split(b"\n\n")
            for event in whole:
                _take(got, event)
                if on_event is not None:
                    on_event(got)
        assert rest == b""
    return got


def _take(got: Received, event: bytes) -> None:
    if event == b"data: [DONE]":
        got.done = True
    elif event.startswith(b"data: "):
        got.events.append(json.loads(event[6:]))
