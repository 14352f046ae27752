"""The operator's process against a real API server and real controllers."""

import json
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.cluster import ApiServer
from tests.operator.api.conftest import COLLECTOR_SECONDS, Kubectl, kubelet, operator, until
from tests.operator.api.demo import demo
from tests.operator.api.test_crd import manifest

pytestmark = pytest.mark.api_server

KINDS = (
    "deployments,replicasets,pods,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
    "poddisruptionbudgets,cascadeservices"
)


ACTS = {"InstanceLost", "InstanceRelabelled", "InstanceTakenOut", "StageScaled", "StageEdited",
        "StageRestarted", "StageDeleted", "ChildDeleted", "ChildEdited"}  # fmt: skip
"""Reasons of what others did."""


def status(kubectl: Kubectl) -> dict[str, Any]:
    return dict(kubectl.json("get", "csvc", "demo").get("status", {}))


def condition(kubectl: Kubectl, type_: str) -> dict[str, Any]:
    entries = {entry["type"]: entry for entry in status(kubectl).get("conditions", [])}
    return dict(entries.get(type_, {}))


def pods(kubectl: Kubectl) -> dict[str, str]:
    """Stage by uid of the pods that are not gated."""
    return {
        pod["metadata"]["uid"]: pod["metadata"]["labels"][names.LABEL_STAGE]
        for pod in kubectl.items("pods")
        if not pod["spec"].get("schedulingGates")
    }


def settled(kubectl: Kubectl, *counts: int) -> bool:
    found = status(kubectl)
    generation = kubectl.json("get", "csvc", "demo")["metadata"]["generation"]
    return (
        found.get("observedGeneration") == generation
        and [row["ready"] for row in found.get("stages", [])] == list(counts)
        and condition(kubectl, "Progressing").get("reason") == Reason.SETTLED
    )


def versions(kubectl: Kubectl) -> dict[str, str]:
    """resourceVersion of everything that the operator can write."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in kubectl.items(KINDS)
    }


async def test_apply_serve_move_scale_roll_delete(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=6) as node:
        await until("one stage of six", lambda: settled(kubectl, 6))
        assert condition(kubectl, "Ready")["status"] == "True"
        resource = kubectl.json("get", "csvc", "demo")
        assert "finalizers" not in resource["metadata"]
        assert "annotations" not in resource["metadata"] or not any(
            "kopf" in key for key in resource["metadata"]["annotations"]
        )
        warm = pods(kubectl)
        for pod in kubectl.items("pods"):
            owners = pod["metadata"]["ownerReferences"]
            assert [owner["kind"] for owner in owners if not owner["controller"]] == [names.KIND]
            assert pod["metadata"]["labels"][names.LABEL_LENGTH_RANGE] == "0-16384"

        kubectl("patch", "csvc", "demo", "--type=merge",
                "-p", '{"spec":{"planning":{"boundaries":[512,4096]}}}')  # fmt: skip
        await until("three stages of two", lambda: settled(kubectl, 2, 2, 2))
        assert set(pods(kubectl)) == set(warm)
        assert node.killed == set()

        kubectl("patch", "csvc", "demo", "--type=merge",
                "-p", '{"spec":{"planning":{"boundaries":[512]}}}')  # fmt: skip
        await until("two stages", lambda: settled(kubectl, 2, 4))
        assert set(pods(kubectl)) == set(warm)
        assert len(kubectl.items("deployments")) == 2
        assert {pod["metadata"]["labels"][names.LABEL_LENGTH_RANGE]
                for pod in kubectl.items("pods")} == {"0-512", "513-16384"}  # fmt: skip

        kubectl("scale", "csvc", "demo", "--replicas=4")
        await until("four instances", lambda: settled(kubectl, 2, 2))
        assert len(node.killed) == 2
        assert set(pods(kubectl)) < set(warm)

        kubectl("patch", "csvc", "demo", "--type=merge",
                "-p", '{"spec":{"engine":{"image":"example.org/engine-simulator:2"}}}')  # fmt: skip
        await until("the new image everywhere", lambda: settled(kubectl, 2, 2) and all(
            pod["spec"]["containers"][0]["image"].endswith(":2") for pod in kubectl.items("pods")
        ))  # fmt: skip
        assert node.most_bound == 6
        assert {event["reason"] for event in kubectl.items("events")} & ACTS == set()

    kubectl("delete", "csvc", "demo", "--timeout=10s")
    async with kubelet(server, kubectl.namespace):
        await until("all children gone", lambda: not [
            item for item in kubectl.items(KINDS)
            if item["metadata"]["name"] not in ("default", "kube-root-ca.crt")
        ], COLLECTOR_SECONDS)  # fmt: skip


async def test_a_settled_service_is_not_written_to(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path) as running,
    ):
        assert kubectl.apply(manifest(kubectl, gpuCount=2)).returncode == 0
        await until("settled", lambda: settled(kubectl, 2))
        before = versions(kubectl)
        # A label on the CascadeService wakes the operator; the next resync is another pass.
        kubectl("label", "csvc", "demo", "touched=yes")
        before["CascadeService/demo"] = versions(kubectl)["CascadeService/demo"]
        log = running.log.read_text()
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path, identity="two", CASCADE_LOG_LEVEL="DEBUG"),
    ):
        # A new process knows nothing of what the first one wrote.
        await until("a second leader", lambda: (
            kubectl.json("get", "lease", "cascade-operator")["spec"]["holderIdentity"] == "two"
        ))  # fmt: skip
        kubectl("label", "csvc", "demo", "touched=again", "--overwrite")
        before["CascadeService/demo"] = versions(kubectl)["CascadeService/demo"]
        await until("some passes", lambda: (
            (tmp_path / "operator-two.log").read_text().count("a pass of") >= 3
        ))  # fmt: skip
        assert versions(kubectl) == before
    assert "Traceback" not in log


async def test_a_service_of_a_foreign_owner_is_not_taken_over(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    kubectl("create", "service", "clusterip", "demo", "--tcp=80")
    before = kubectl.json("get", "service", "demo")["metadata"]["resourceVersion"]
    async with operator(server, kubectl.namespace, tmp_path):
        assert kubectl.apply(manifest(kubectl)).returncode == 0
        await until(
            "refused", lambda: condition(kubectl, "Ready").get("reason") == Reason.NAME_TAKEN
        )
        assert f"{kubectl.namespace}/demo exists" in condition(kubectl, "Ready")["message"]
        assert kubectl.json("get", "service", "demo")["metadata"]["resourceVersion"] == before
        assert kubectl.items("pods") == []


async def test_the_plan_goes_on_where_a_killed_operator_left_it(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with kubelet(server, kubectl.namespace) as node:
        async with operator(server, kubectl.namespace, tmp_path) as running:
            assert kubectl.apply(manifest(kubectl, gpuCount=6)).returncode == 0
            await until("one stage of six", lambda: settled(kubectl, 6))
            kubectl("patch", "csvc", "demo", "--type=merge",
                    "-p", '{"spec":{"planning":{"boundaries":[512]}}}')  # fmt: skip
            await until("a move has begun", lambda: "1" in pods(kubectl).values())
            running.process.kill()
        async with operator(
            server, kubectl.namespace, tmp_path, identity="two", CASCADE_LEADER_ELECTION="false"
        ):
            await until("two stages", lambda: settled(kubectl, 3, 3))
        assert node.killed == set()
        assert node.most_bound == 6


async def test_in_a_pause_nothing_moves_and_what_is_lost_or_declared_is_followed(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    def plan(**planning: object) -> None:
        patch = json.dumps({"spec": {"planning": planning}})
        kubectl("patch", "csvc", "demo", "--type=merge", "-p", patch)

    async with demo(kubectl, server, tmp_path, gpuCount=4) as node:
        await until("one stage of four", lambda: settled(kubectl, 4))
        plan(mode="Paused", boundaries=[512])
        await until("paused", lambda: (
            condition(kubectl, "PlanApplied").get("reason") == Reason.PAUSED and settled(kubectl, 4)
        ))  # fmt: skip
        lost = kubectl.items("pods")[0]["metadata"]
        kubectl("delete", "pod", lost["name"], "--wait=false")
        await until("a replacement", lambda: (
            lost["uid"] not in pods(kubectl) and settled(kubectl, 4)
        ))  # fmt: skip
        kubectl("scale", "csvc", "demo", "--replicas=6")
        await until("six instances", lambda: settled(kubectl, 6))
        warm = pods(kubectl)
        assert set(warm.values()) == {"0"}
        assert node.killed == {lost["uid"]}
        plan(mode="Active")
        await until("two stages", lambda: settled(kubectl, 3, 3))
        assert set(pods(kubectl)) == set(warm)
