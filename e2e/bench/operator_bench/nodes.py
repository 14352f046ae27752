"""Scheduler and kubelets of a control plane that has no nodes, fast enough for a thousand pods.

An ungated pod is bound to one of a few nodes and becomes ready, a deleted one ends. Whatever else
happens to a pod is the doing of the real controllers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from enum import Enum, auto
from itertools import count, cycle
from typing import Final

import aiohttp

from cascade_policy import names
from e2e.bench.operator_bench.kube import STRATEGIC, Json, Kube, KubeError

NODES: Final = 10
WORKERS: Final = 12
_BEAT_SECONDS: Final = 10.0
"""A node whose Lease is older than 50 seconds counts as dead, and its pods as not ready."""
_RETRY_SECONDS: Final = 0.2
_ENDING: Final = {"gracePeriodSeconds": 0}


class Act(Enum):
    """What the nodes have to do about a pod."""

    END = auto()
    BIND = auto()
    START = auto()


def next_act(pod: Json) -> Act | None:
    """What is to be done about a pod in this state, None for nothing."""
    if "deletionTimestamp" in pod["metadata"]:
        return Act.END
    if pod["spec"].get("schedulingGates"):
        return None
    if not pod["spec"].get("nodeName"):
        return Act.BIND
    ready = any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions") or ()
    )
    return None if ready else Act.START


def running(address: str, now: datetime) -> Json:
    """The status of a pod whose containers all run."""
    stamp = _stamp(now)
    container = {
        "state": {"running": {"startedAt": stamp}},
        "ready": True,
        "restartCount": 0,
        "image": "",
        "imageID": "",
    }
    ready = {"status": "True", "lastTransitionTime": stamp}
    return {
        "phase": "Running",
        "startTime": stamp,
        "conditions": [
            {"type": type_, **ready}
            for type_ in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady")
        ],
        "initContainerStatuses": [{"name": names.CONTAINER_ROUTER, **container}],
        "containerStatuses": [{"name": names.CONTAINER_ENGINE, **container}],
        "podIP": address,
    }


class Nodes:
    """Runs the pods of a namespace; `ended` are those that ended after having been bound."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._path = f"/api/v1/namespaces/{namespace}/pods"
        self._names = [f"node-{number}" for number in range(NODES)]
        self._next_node = cycle(self._names)
        self._addresses = _addresses()
        self._pods: dict[str, Json] = {}
        self._queued: set[str] = set()
        self._queue: asyncio.Queue[str] = asyncio.Queue()
        self.ended = 0
        self.started = 0

    async def run(self) -> None:
        """Until cancelled."""
        for name in self._names:
            await self._register(name)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._watch())
            for _ in range(WORKERS):
                tasks.create_task(self._work())

    async def _register(self, name: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self._kube.apply(f"/api/v1/nodes/{name}", node)
        now = _stamp(datetime.now(UTC))
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        status = {"conditions": [ready], "capacity": {"pods": "1000"}}
        await self._kube.request(
            "PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, STRATEGIC
        )
        await self._renew(name)

    async def _renew(self, name: str) -> None:
        path = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
        }
        await self._kube.apply(path, lease)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            for name in self._names:
                with suppress(KubeError, aiohttp.ClientError, TimeoutError):
                    await self._renew(name)

    async def _watch(self) -> None:
        """List, then follow; again where the watch breaks."""
        while True:
            with suppress(KubeError, aiohttp.ClientError, TimeoutError):
                selector = names.LABEL_SERVICE
                listed = await self._kube.request("GET", f"{self._path}?labelSelector={selector}")
                for pod in listed["items"]:
                    self._saw(pod)
                version = listed["metadata"]["resourceVersion"]
                async for event in self._kube.watch(self._path, selector, version):
                    if event["type"] == "ERROR":
                        break
                    if event["type"] == "DELETED":
                        self._pods.pop(event["object"]["metadata"]["uid"], None)
                    else:
                        self._saw(event["object"])
            await asyncio.sleep(_RETRY_SECONDS)

    def _saw(self, pod: Json) -> None:
        uid = pod["metadata"]["uid"]
        if next_act(pod) is None:
            self._pods.pop(uid, None)
            return
        self._pods[uid] = pod
        if uid not in self._queued:
            self._queued.add(uid)
            self._queue.put_nowait(uid)

    async def _work(self) -> None:
        while True:
            uid = await self._queue.get()
            self._queued.discard(uid)
            pod = self._pods.pop(uid, None)
            if pod is None:
                continue
            try:
                await self._do(pod)
            except KubeError as error:
                # Overtaken: what overtook it comes as an event of its own.
                if error.status not in (404, 409):
                    raise
            except (aiohttp.ClientError, TimeoutError):
                self._saw(pod)
                await asyncio.sleep(_RETRY_SECONDS)

    async def _do(self, pod: Json) -> None:
        metadata = pod["metadata"]
        path = f"{self._path}/{metadata['name']}"
        act = next_act(pod)
        if act is Act.END:
            self.ended += bool(pod["spec"].get("nodeName"))
            await self._kube.request("DELETE", path, _ENDING)
        elif act is Act.BIND:
            target = {"apiVersion": "v1", "kind": "Node", "name": next(self._next_node)}
            binding = {"metadata": {"name": metadata["name"]}, "target": target}
            await self._kube.request("POST", f"{path}/binding", binding)
        elif act is Act.START:
            status = running(next(self._addresses), datetime.now(UTC))
            await self._kube.request("PATCH", f"{path}/status", {"status": status}, STRATEGIC)
            self.started += 1


@asynccontextmanager
async def nodes_of(kube: Kube, namespace: str) -> AsyncIterator[Nodes]:
    """Nodes for the pods of one namespace, that run while the block does."""
    nodes = Nodes(kube, namespace)
    task = asyncio.create_task(nodes.run())
    try:
        yield nodes
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _addresses() -> Iterator[str]:
    for number in count(1):
        yield f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _stamp(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")
