"""A node is lost in the middle of moves, with real controllers that evict its pods."""

from pathlib import Path
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.kubelet import NODE
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_humans import told
from tests.operator.api.test_operator import pods, settled

pytestmark = pytest.mark.api_server

OTHER = "other"
GRACE_SECONDS = 1
PATIENCE_SECONDS = 90.0
"""A pod is given up 30 s after its grace period."""


def _on(kubectl: Kubectl, node: str) -> dict[str, Any]:
    """Pods on a node by uid."""
    return {
        pod["metadata"]["uid"]: pod
        for pod in kubectl.items("pods")
        if pod["spec"].get("nodeName") == node
    }


async def test_instances_of_a_lost_node_are_replaced_although_their_pods_stay(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        node.nodes.append(OTHER)
        await node.register(OTHER)
        engine = {
            "type": "simulated",
            "template": {"spec": {"terminationGracePeriodSeconds": GRACE_SECONDS}},
        }
        assert kubectl.apply(manifest(kubectl, gpuCount=6, engine=engine)).returncode == 0
        await until("one stage of six", lambda: settled(kubectl, 6))
        lost, kept = _on(kubectl, OTHER), _on(kubectl, NODE)
        assert (len(lost), len(kept)) == (3, 3)

        kubectl("patch", "csvc", "demo", "--type=merge",
                "-p", '{"spec":{"planning":{"boundaries":[1024]}}}')  # fmt: skip
        await until("a move has begun", lambda: "1" in pods(kubectl).values())
        node.dead.add(OTHER)
        node.nodes.remove(OTHER)
        # What the controller of nodes does when one does not answer; here nobody waits for it.
        kubectl("taint", "nodes", OTHER, "lost=yes:NoExecute")
        await until(
            "two stages of three",
            lambda: settled(kubectl, 3, 3),
            seconds=PATIENCE_SECONDS,
        )
        assert set(_on(kubectl, OTHER)) == set(lost), "they were replaced before they are gone"
        assert set(_on(kubectl, NODE)) > set(kept), "the other instances live on"
        messages = told(kubectl, Reason.INSTANCE_LOST)
        assert all("DeletionByTaintManager" in message for message in messages)
        named = {pod["metadata"]["name"] for pod in lost.values()}
        assert all(any(name in message for message in messages) for name in named)

        # The node is deleted, and its pods with it.
        warm = pods(kubectl).keys() - lost.keys()
        kubectl("delete", "pods", *named, "--grace-period=0", "--force")
        await until("they are gone", lambda: not _on(kubectl, OTHER))
        await until("two stages of three", lambda: settled(kubectl, 3, 3))
        assert pods(kubectl).keys() == warm
        assert node.killed == set()
        assert told(kubectl, Reason.INSTANCE_LOST) == messages
