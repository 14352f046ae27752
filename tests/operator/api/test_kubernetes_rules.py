"""What real controllers do, where the operator has to live with it. One rule, one test.

Rules that other tests show are not here: moves and deletions of stages (test_operator.py, and
tests/operator/test_moves_property.py for controllers with old views), quotas (e2e/scenarios/
test_trouble.py), rights of sidecars (test_what_rights_were_used.py), /scale (test_shortage.py).
"""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.conditions import DEGRADED, PROGRESSING, READY
from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.demo import demo
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods
from tests.operator.api.told import change, told

pytestmark = pytest.mark.api_server

OTHER_GATE = "queue.example.org/admission"


def addresses(kubectl: Kubectl, service: str) -> set[str]:
    """Names of the pods in the EndpointSlices of a Service."""
    slices = kubectl.items("endpointslices", "-l", f"kubernetes.io/service-name={service}")
    return {endpoint["targetRef"]["name"] for one in slices for endpoint in one["endpoints"] or ()}


async def test_a_gate_of_another_controller_stays_when_ours_is_lifted(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    template = {"spec": {"schedulingGates": [{"name": OTHER_GATE}]}}
    engine = {"type": "simulated", "template": template}
    async with demo(kubectl, server, tmp_path, gpuCount=1, engine=engine):

        def lifted() -> str | None:
            found = kubectl.items("pods")
            gates = [gate["name"] for pod in found for gate in pod["spec"]["schedulingGates"]]
            return str(found[0]["metadata"]["name"]) if gates == [OTHER_GATE] else None

        name = await until("our gate is gone and the other one is there", lifted)
        await told(kubectl, READY, False, Reason.STARTING)
        gone = {"spec": {"schedulingGates": [{"$patch": "delete", "name": OTHER_GATE}]}}
        kubectl("patch", "pod", name, "-p", json.dumps(gone))
        await told(kubectl, READY, True, Reason.SERVING)


async def test_moves_wait_for_a_rollout_and_one_that_is_taken_back_costs_one_instance(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=4) as node:
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        warm = pods(kubectl)
        node.room = 0
        change(kubectl, engine={"args": ["--seed=7"]})
        await told(kubectl, PROGRESSING, True, Reason.ROLLING_OUT)
        await until("the first one is replaced", lambda: node.killed)
        change(kubectl, planning={"boundaries": [512]})
        generation = kubectl.json("get", "csvc", "demo")["metadata"]["generation"]
        await until("the boundaries are seen", lambda: (
            kubectl.json("get", "csvc", "demo")["status"]["observedGeneration"] == generation
        ))  # fmt: skip
        await told(kubectl, DEGRADED, False, Reason.ROLLING_OUT)
        assert set(pods(kubectl).values()) == {"0"}
        change(kubectl, engine={"args": None})
        await until("nobody has the template any more", lambda: not any(
            "--seed=7" in pod["spec"]["containers"][0]["args"] for pod in kubectl.items("pods")
        ))  # fmt: skip
        node.room = 4
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        # One that was lifted an instant ago may end in favour of a pod that is moved in.
        assert len(node.killed & set(warm)) == 1
        assert len(set(pods(kubectl)) & set(warm)) == 3
        assert sorted(pods(kubectl).values()) == ["0", "0", "1", "1"]


async def test_a_placeholder_does_not_keep_a_node_from_being_drained(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    def budget() -> dict[str, Any]:
        return dict(kubectl.json("get", "poddisruptionbudget", "demo").get("status", {}))

    async with kubelet(server, kubectl.namespace):
        async with operator(server, kubectl.namespace, tmp_path):
            assert kubectl.apply(manifest(kubectl, gpuCount=3)).returncode == 0
            await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        kubectl("scale", "deployment", "demo-stage-0", "--replicas=4")
        await until("the placeholder is counted", lambda: budget().get("expectedPods") == 4)
        assert budget()["disruptionsAllowed"] == 1


async def test_a_pod_that_only_looks_like_an_instance_gets_no_request(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    labels = {names.LABEL_SERVICE: "demo", names.LABEL_STAGE: "0"}
    stranger = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "labels": labels},
        "spec": {"containers": [{"name": "engine", "image": "example.org/engine:1"}]},
    }
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path),
    ):
        kubectl("apply", "-f", "-", stdin=json.dumps(stranger))
        arguments = ("wait", "--for=condition=Ready", "pod/stranger", "--timeout=40s")
        await asyncio.to_thread(kubectl, *arguments)
        assert kubectl.apply(manifest(kubectl, gpuCount=1)).returncode == 0
        await told(kubectl, READY, True, Reason.SERVING)
        own = {pod["metadata"]["name"] for pod in kubectl.items("pods")} - {"stranger"}
        for service in ("demo", "demo-stage-0"):
            await until("the endpoints", partial(addresses, kubectl, service))
            assert addresses(kubectl, service) == own


def test_a_manifest_in_git_that_leaves_instances_out_does_not_fight_an_autoscaler(
    kubectl: Kubectl,
) -> None:
    def sync() -> None:
        text = json.dumps(manifest(kubectl, gpuCount=8))
        kubectl("apply", "--server-side", "--field-manager=git", "-f", "-", stdin=text)

    sync()
    kubectl("scale", "csvc", "demo", "--replicas=5")
    sync()
    assert kubectl.json("get", "csvc", "demo")["spec"]["instances"] == 5
