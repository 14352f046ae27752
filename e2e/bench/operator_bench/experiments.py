"""Brings up CascadeServices, lets them rest, changes their traffic, and counts meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cascade_policy import names
from e2e.bench.operator_bench.figures import Outcome, Phase, Vitals, phase_of, writes_seen
from e2e.bench.operator_bench.goals import REPLAN, REST, START
from e2e.bench.operator_bench.kube import Json, Kube, connect
from e2e.bench.operator_bench.nodes import Nodes, nodes_of
from e2e.bench.operator_bench.process import Operator, operator
from e2e.bench.operator_bench.prometheus import Prometheus, prometheus
from e2e.bench.operator_bench.traffic import BOUNDARY, MAX_LENGTH, counts, mix, shares
from e2e.cluster import ApiServer, Progress, api_server

NAMESPACE: Final = "bench"
CRD: Final = Path(__file__).parents[3] / "crds" / "cascadeservice.yaml"
SERVICES: Final = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}"
START_SECONDS: Final = 420.0
REPLAN_SECONDS: Final = 420.0
QUIET_SECONDS: Final = 180.0
_STILL_LOOKS: Final = 3
_LOOK_SECONDS: Final = 0.2
_TELL_SECONDS: Final = 5.0


class TookTooLong(Exception):
    """Something did not happen in time; the message says what."""


@dataclass(frozen=True)
class Experiment:
    """What to bring up and what to do with it. Times in seconds."""

    name: str
    services: int
    instances: int
    """Of each service, at least 2."""
    rest_seconds: float
    moves: int
    """Instances of each service that the second plan wants elsewhere; 0 for no second plan."""
    interval_seconds: int
    """Between two plans."""
    resync_seconds: float = 30.0
    controller_qps: int | None = None
    """Requests per second of each controller of Kubernetes; None for its default."""


@dataclass(frozen=True)
class Seen:
    """How far the services are."""

    settled: int
    ready: int
    plans: Mapping[str, str]
    """Plan ids by service."""


def run(experiment: Experiment, say: Progress) -> Outcome:
    """One experiment on an API server of its own. Raises ClusterError, TookTooLong."""
    say(f"{experiment.name}: {experiment.services} x {experiment.instances} instances")
    with api_server(say, controllers=True, controller_qps=experiment.controller_qps) as server:
        return asyncio.run(measure(experiment, server, say))


async def measure(experiment: Experiment, server: ApiServer, say: Progress) -> Outcome:
    """One experiment on this API server, in a namespace of its own. Raises TookTooLong."""
    with TemporaryDirectory() as folder:
        async with (
            connect(server.kubeconfig) as kube,
            prometheus() as traffic,
            nodes_of(kube, NAMESPACE) as nodes,
        ):
            await _install(kube, server)
            log = Path(folder) / "operator.log"
            resync = experiment.resync_seconds
            async with operator(server.kubeconfig, NAMESPACE, traffic.url, log, resync) as running:
                stage = _Stage(experiment, kube, traffic, running, nodes, say)
                return await stage.play()


class _Stage:
    """One experiment while it runs."""

    def __init__(
        self,
        experiment: Experiment,
        kube: Kube,
        traffic: Prometheus,
        running: Operator,
        nodes: Nodes,
        say: Progress,
    ) -> None:
        self._experiment = experiment
        self._kube = kube
        self._traffic = traffic
        self._operator = running
        self._nodes = nodes
        self._say = say
        half = experiment.instances // 2
        self._shares = shares(experiment.instances, (half, half + experiment.moves))

    async def play(self) -> Outcome:
        """Start, rest, and a second plan where one is asked for."""
        experiment = self._experiment
        phases = [await self._phase(START, self._start)]
        await self._until_quiet()
        phases.append(await self._phase(REST, self._rest))
        place_seconds = None
        if experiment.moves:
            phases.append(await self._phase(REPLAN, self._replan))
            place_seconds = round(time.monotonic() - self._traffic.first_read, 1)
        return Outcome(
            name=experiment.name,
            services=experiment.services,
            instances=experiment.instances,
            phases=phases,
            ended=self._nodes.ended,
            place_seconds=place_seconds,
        )

    async def _phase(self, name: str, act: Callable[[], Awaitable[None]]) -> Phase:
        before, written = await self._count()
        began = time.monotonic()
        await act()
        seconds = time.monotonic() - began
        after, written_after = await self._count()
        phase = phase_of(name, seconds, before, after, written_after - written)
        self._say(
            f"  {name}: {phase.seconds:.0f} s, {phase.cpu_seconds:.1f} s of CPU, {phase.passes} "
            f"passes, p99 {phase.pass_p99_ms:.0f} ms, {phase.writes} writes, {phase.moved} moves, "
            f"{phase.rss_mb:.0f} MB"
        )
        return phase

    async def _count(self) -> tuple[Vitals, int]:
        return await self._operator.vitals(), writes_seen(await self._kube.text("GET", "/metrics"))

    async def _start(self) -> None:
        self._set_traffic(self._shares[0])
        for number in range(self._experiment.services):
            resource = _resource(f"service-{number}", self._experiment)
            await self._kube.request("POST", SERVICES, resource)
        await self._until_settled(START_SECONDS, {})

    async def _rest(self) -> None:
        await asyncio.sleep(self._experiment.rest_seconds)

    async def _replan(self) -> None:
        before = (await self._look()).plans
        self._set_traffic(self._shares[1])
        await self._until_settled(REPLAN_SECONDS, before)

    def _set_traffic(self, long_share: float) -> None:
        one = mix(long_share, self._experiment.instances)
        self._say(f"  traffic for {'|'.join(map(str, counts(one, self._experiment.instances)))}")
        self._traffic.set({f"service-{number}": one for number in range(self._experiment.services)})

    async def _until_settled(self, seconds: float, old_plans: Mapping[str, str]) -> None:
        """Until every service has another plan than its old one and all its pods in place."""
        began = told = time.monotonic()
        while True:
            seen = await self._look()
            fresh = sum(old_plans.get(name) != plan for name, plan in seen.plans.items())
            if seen.settled == fresh == self._experiment.services:
                return
            now = time.monotonic()
            if now - told > _TELL_SECONDS:
                told = now
                vitals = await self._operator.vitals()
                self._say(
                    f"  {fresh} new plans, {seen.settled} services settled, {seen.ready} pods "
                    f"ready, {vitals.moved} moved, {vitals.rss_mb:.0f} MB"
                )
            if now - began > seconds:
                raise TookTooLong(
                    f"{self._experiment.name}: after {seconds:.0f} s {seen.settled} of "
                    f"{self._experiment.services} services are settled, {fresh} with a new plan"
                )
            await asyncio.sleep(_LOOK_SECONDS)

    async def _until_quiet(self) -> None:
        """Until the controllers have nothing left to write: some of it follows the pods late."""
        deadline = time.monotonic() + QUIET_SECONDS
        written, still = -1, 0
        while still < _STILL_LOOKS:
            if time.monotonic() > deadline:
                raise TookTooLong(
                    f"{self._experiment.name}: objects are still written {QUIET_SECONDS:.0f} s "
                    "after all services settled"
                )
            await asyncio.sleep(1.0)
            _, now = await self._count()
            written, still = now, still + 1 if now == written else 0

    async def _look(self) -> Seen:
        items = (await self._kube.request("GET", SERVICES))["items"]
        return Seen(
            settled=sum(is_settled(item) for item in items),
            ready=sum(row["ready"] for item in items for row in _status(item).get("stages", ())),
            plans={
                item["metadata"]["name"]: _status(item).get("plan", {}).get("id", "")
                for item in items
            },
        )


def is_settled(resource: Json) -> bool:
    """Whether the status says that every instance is ready and where the plan wants it."""
    status = _status(resource)
    reasons = {entry["type"]: entry["reason"] for entry in status.get("conditions", ())}
    return reasons.get("Progressing") == "Settled" and all(
        row["ready"] == row["desired"] and not row["moving"] for row in status["stages"]
    )


def _status(resource: Json) -> dict[str, Any]:
    return dict(resource.get("status") or {})


def _resource(name: str, experiment: Experiment) -> Json:
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "model": {"name": "bench-model", "maxLength": MAX_LENGTH},
            "gpuCount": experiment.instances,
            "engine": {"type": "simulated"},
            "planning": {
                "boundaries": [BOUNDARY],
                "intervalSeconds": experiment.interval_seconds,
                "minGainPercent": 0,
                "cooldownSeconds": 0,
            },
        },
    }


async def _install(kube: Kube, server: ApiServer) -> None:
    """The CRD, and the namespace of the services."""
    for arguments in (
        ("apply", "-f", str(CRD)),
        ("wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD)),
    ):
        process = await asyncio.create_subprocess_exec(
            *server.kubectl, *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        if await process.wait():
            raise RuntimeError(f"kubectl {arguments[0]} of the CRD failed")
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    await kube.apply(f"/api/v1/namespaces/{NAMESPACE}", space)
