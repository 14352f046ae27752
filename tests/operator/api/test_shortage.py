"""GPUs: several for an instance, and fewer than declared."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.conditions import DEGRADED, PLAN_APPLIED, PROGRESSING, READY
from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.told import change, told

pytestmark = pytest.mark.api_server


def placed(kubectl: Kubectl) -> Counter[str]:
    """Pods on a node, by stage."""
    return Counter(
        pod["metadata"]["labels"][names.LABEL_STAGE]
        for pod in kubectl.items("pods")
        if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
    )


async def test_an_instance_of_two_gpus_counts_once(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path),
    ):
        spec: dict[str, Any] = {"gpuCount": 8, "gpusPerInstance": 2, "engine": {"type": "vllm"}}
        assert kubectl.apply(manifest(kubectl, **spec)).returncode == 0
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        status = kubectl.json("get", "csvc", "demo")["status"]
        assert (status["instances"], status["gpus"], status["partition"]) == (4, 8, "4")
        for pod in kubectl.items("pods"):
            (engine,) = pod["spec"]["containers"]
            assert engine["resources"]["limits"]["nvidia.com/gpu"] == "2"
            at = engine["args"].index("--tensor-parallel-size")
            assert engine["args"][at + 1] == "2"
        kubectl("scale", "csvc", "demo", "--replicas=3")
        await until("three instances of two", lambda: (
            kubectl.json("get", "csvc", "demo")["status"]["gpus"] == 6
        ))  # fmt: skip
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        # What an autoscaler reads: instances, and there is nothing to read before they are set.
        scale = kubectl.json("get", "csvc/demo", "--subresource=scale")
        assert (scale["spec"]["replicas"], scale["status"]["replicas"]) == (3, 3)
        refused = kubectl.apply(manifest(kubectl, **{**spec, "gpuCount": 7}))
        assert "must be a multiple of spec.gpusPerInstance" in refused.stderr


async def test_too_few_gpus_are_told_and_every_stage_gets_of_those_there_are(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        node.room = 5
        assert kubectl.apply(manifest(kubectl, gpuCount=8)).returncode == 0
        words = "3 of 8 instances are not ready"
        await told(kubectl, DEGRADED, True, Reason.UNSCHEDULABLE, words=words)
        await told(kubectl, READY, True, Reason.SERVING)
        change(kubectl, planning={"boundaries": [512, 1024, 2048]})
        await until("each stage of the plan has one", lambda: (
            sorted(placed(kubectl)) == ["0", "1", "2", "3"]
        ))  # fmt: skip
        await told(kubectl, PLAN_APPLIED, True, Reason.PROMETHEUS_NOT_CONFIGURED)
        stages = kubectl.json("get", "csvc", "demo")["status"]["stages"]
        assert [row["desired"] for row in stages] == [2, 2, 2, 2]
        assert sorted(row["ready"] for row in stages) == [1, 1, 1, 2]
        assert (len(kubectl.items("pods")), node.killed) == (8, set())
        node.room = 8
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        assert placed(kubectl) == {"0": 2, "1": 2, "2": 2, "3": 2}
        assert node.killed == set()


async def test_a_stage_for_which_there_is_no_gpu_keeps_the_ranges_before(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        node.room = 1
        assert kubectl.apply(manifest(kubectl, gpuCount=2)).returncode == 0
        await told(kubectl, READY, True, Reason.SERVING)
        change(kubectl, planning={"boundaries": [512]})
        await told(kubectl, PLAN_APPLIED, False, Reason.WAITING_FOR_STAGES)
        await told(kubectl, READY, True, Reason.SERVING)
        node.room = 2
        await told(kubectl, PLAN_APPLIED, True, Reason.PROMETHEUS_NOT_CONFIGURED)
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
