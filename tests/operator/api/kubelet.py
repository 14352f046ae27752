"""Scheduler and kubelet of a control plane that has no nodes.

The control plane under test is real; only what needs a machine is played here: an ungated pod is
bound and becomes ready, a deleted one ends after a moment. Whatever else happens to a pod is the
doing of real controllers.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from cascade_operator import kinds
from cascade_operator.cluster import Cluster, ClusterError
from cascade_policy import names

_POLL_SECONDS = 0.05


class Kubelet:
    """Runs the pods of one namespace; `killed` are the pods that ended after having been bound."""

    def __init__(self, api: Cluster, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self.killed: set[str] = set()
        self.most_bound = 0
        self.ready_pods = True

    async def run(self) -> None:
        """Until cancelled."""
        await self._register()
        while True:
            with suppress(ClusterError):
                await self._round()
            await asyncio.sleep(_POLL_SECONDS)

    async def _register(self) -> None:
        """Endpoints are written only for pods on a node that exists."""
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}
        with suppress(ClusterError):
            await self._api._write("POST", "/api/v1/nodes", {}, node)

    async def _round(self) -> None:
        pods = await self._api.list(kinds.POD, self._namespace, {})
        bound = [pod for pod in pods if pod["spec"].get("nodeName")]
        self.most_bound = max(self.most_bound, len(bound))
        for pod in pods:
            with suppress(ClusterError):
                await self._advance(pod)

    async def _advance(self, pod: Mapping[str, Any]) -> None:
        metadata = pod["metadata"]
        if "deletionTimestamp" in metadata:
            if pod["spec"].get("nodeName"):
                self.killed.add(metadata["uid"])
            await self._end(metadata["name"])
        elif pod["spec"].get("schedulingGates"):
            return
        elif not pod["spec"].get("nodeName"):
            await self._bind(metadata["name"])
        elif self.ready_pods and not _is_ready(pod):
            await self._start(metadata["name"])

    async def _bind(self, name: str) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "node"},
        }
        path = kinds.POD.path(self._namespace, name, "binding")
        await self._api._write("POST", path, {}, binding)

    async def _start(self, name: str) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        running = {"state": {"running": {"startedAt": now}}, "ready": True, "restartCount": 0}
        rest = {"image": "", "imageID": ""}
        status = {
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": now},
                {"type": "ContainersReady", "status": "True", "lastTransitionTime": now},
            ],
            "initContainerStatuses": [{"name": names.CONTAINER_ROUTER, **running, **rest}],
            "containerStatuses": [{"name": names.CONTAINER_ENGINE, **running, **rest}],
            "podIP": f"10.1.0.{1 + hash(name) % 250}",
        }
        path = kinds.POD.path(self._namespace, name, "status")
        content = "application/strategic-merge-patch+json"
        await self._api._write("PATCH", path, {}, {"status": status}, content)

    async def _end(self, name: str) -> None:
        body = {"gracePeriodSeconds": 0}
        await self._api._write("DELETE", kinds.POD.path(self._namespace, name), {}, body)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(
        condition["type"] == "Ready" and condition["status"] == "True"
        for condition in pod.get("status", {}).get("conditions") or ()
    )
