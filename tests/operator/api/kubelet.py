"""Scheduler and kubelet of a control plane that has no nodes.

The control plane under test is real; only what needs a machine is played here: an ungated pod is
bound and becomes ready, a deleted one ends after a moment. Pods can be made to crash or to be not
ready, and nodes to be full. Whatever else happens to a pod is the doing of real controllers.
"""

import asyncio
import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cascade_operator import kinds
from cascade_operator.cluster import Cluster, ClusterError
from cascade_policy import names

NODE = "node"
_POLL_SECONDS = 0.05
_NO_NODE = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
_CRASHING = {
    "waiting": {
        "reason": "CrashLoopBackOff",
        "message": "back-off 10s restarting failed container=engine",
    }
}


class Kubelet:
    """Runs the pods of one namespace; `killed` are the pods that ended after having been bound."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._stopped = asyncio.Event()
        self.killed: set[str] = set()
        self.most_bound = 0
        self.ready_pods = True
        """Whether bound pods become ready, or stop being so."""
        self.crashing = False
        """Whether their engines crash, as long as `ready_pods` is False."""
        self.room = math.inf
        """Pods that find a node."""
        self.nodes = [NODE]
        """Where pods are put, in turn."""
        self.dead: set[str] = set()
        """Nodes whose kubelet does nothing any more."""
        self._bound = 0

    async def run(self) -> None:
        """Until told to stop: a request that is cancelled half-way leaves its socket behind."""
        for name in self.nodes:
            await self.register(name)
        while not self._stopped.is_set():
            with suppress(ClusterError):
                await self._round()
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._stopped.wait()

    def stop(self) -> None:
        """End `run` after the round that is under way."""
        self._stopped.set()

    async def register(self, name: str) -> None:
        """Endpoints are written only for pods on a node that exists."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        with suppress(ClusterError):
            await self._api._write("POST", "/api/v1/nodes", {}, node)

    async def _round(self) -> None:
        pods = await self._api.list(kinds.POD, self._namespace, {})
        bound = [pod for pod in pods if pod["spec"].get("nodeName")]
        self.most_bound = max(self.most_bound, len(bound))
        free = self.room - len(bound)
        for pod in pods:
            with suppress(ClusterError):
                free -= await self._advance(pod, free)

    async def _advance(self, pod: Mapping[str, Any], free: float) -> int:
        """One step of a pod; how many of the `free` places it took."""
        metadata = pod["metadata"]
        if pod["spec"].get("nodeName") in self.dead:
            return 0
        if "deletionTimestamp" in metadata:
            if pod["spec"].get("nodeName"):
                self.killed.add(metadata["uid"])
            await self._end(metadata["name"])
        elif pod["spec"].get("schedulingGates"):
            return 0
        elif not pod["spec"].get("nodeName"):
            if free >= 1:
                await self._bind(metadata["name"])
                return 1
            if not _is(pod, "PodScheduled", "False", "Unschedulable"):
                await self._find_no_node(metadata["name"])
        elif self.ready_pods and not _is(pod, "Ready", "True"):
            await self._start(metadata["name"])
        elif not self.ready_pods and (_is(pod, "Ready", "True") or self._to_crash(pod)):
            await self._fail(metadata["name"])
        return 0

    def _to_crash(self, pod: Mapping[str, Any]) -> bool:
        """Whether the pod does not crash yet although it should."""
        containers = pod["status"].get("containerStatuses") or [{"state": {}}]
        return self.crashing and "waiting" not in containers[0]["state"]

    async def _bind(self, name: str) -> None:
        self._bound += 1
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {
                "apiVersion": "v1",
                "kind": "Node",
                "name": self.nodes[self._bound % len(self.nodes)],
            },
        }
        path = kinds.POD.path(self._namespace, name, "binding")
        await self._api._write("POST", path, {}, binding)

    async def _find_no_node(self, name: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        said = {**condition, "message": _NO_NODE, "lastTransitionTime": _now()}
        await self._tell(name, {"conditions": [said]})

    async def _start(self, name: str) -> None:
        await self._run_pod(name, ready="True", engine={"running": {"startedAt": _now()}})

    async def _fail(self, name: str) -> None:
        """The router goes on; the engine crashes, or is just not ready."""
        engine = _CRASHING if self.crashing else {"running": {"startedAt": _now()}}
        await self._run_pod(name, ready="False", engine=engine)

    async def _run_pod(self, name: str, *, ready: str, engine: Mapping[str, Any]) -> None:
        now = _now()
        rest = {"restartCount": 0, "image": "", "imageID": ""}
        router = {"state": {"running": {"startedAt": now}}, "ready": True, **rest}
        told = {"name": names.CONTAINER_ENGINE, "state": dict(engine), "ready": ready == "True"}
        status = {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": now},
                {"type": "ContainersReady", "status": ready, "lastTransitionTime": now},
            ],
            "initContainerStatuses": [{"name": names.CONTAINER_ROUTER, **router}],
            "containerStatuses": [{**told, **rest}],
            "podIP": f"10.1.0.{1 + hash(name) % 250}",
        }
        await self._tell(name, status)

    async def _tell(self, name: str, status: Mapping[str, Any]) -> None:
        path = kinds.POD.path(self._namespace, name, "status")
        content = "application/strategic-merge-patch+json"
        await self._api._write("PATCH", path, {}, {"status": status}, content)

    async def _end(self, name: str) -> None:
        body = {"gracePeriodSeconds": 0}
        await self._api._write("DELETE", kinds.POD.path(self._namespace, name), {}, body)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is(pod: Mapping[str, Any], type_: str, status: str, reason: str | None = None) -> bool:
    return any(
        (condition["type"], condition["status"]) == (type_, status)
        and reason in (None, condition.get("reason"))
        for condition in pod.get("status", {}).get("conditions") or ()
    )
