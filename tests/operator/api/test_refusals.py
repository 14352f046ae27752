"""What the operator says when the spec or the cluster does not let it do its work."""

import asyncio
from pathlib import Path

import pytest

from cascade_operator.conditions import DEGRADED, PLAN_APPLIED, PROGRESSING, READY
from cascade_operator.reasons import Reason
from e2e.cluster import ApiServer
from tests.operator.api.admission import failing, refusing
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.demo import demo
from tests.operator.api.test_crd import manifest
from tests.operator.api.told import change, told

pytestmark = pytest.mark.api_server

HOOK = {"containers": [{"name": "engine", "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}]}


async def test_a_spec_that_contradicts_itself_is_named_and_takes_nothing_from_who_serves(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=2) as node:
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        change(kubectl, engine={"template": {"spec": HOOK}})
        message = await told(kubectl, PROGRESSING, False, Reason.INVALID_SPEC)
        assert "lifecycle.preStop" in message
        await told(kubectl, PLAN_APPLIED, False, Reason.INVALID_SPEC)
        await told(kubectl, READY, True, Reason.SERVING)
        kubectl("delete", "pod", kubectl.items("pods")[0]["metadata"]["name"], "--wait=false")
        await until("one was lost", lambda: node.killed)
        await told(kubectl, DEGRADED, False, Reason.ALL_INSTANCES_READY)
        node.ready_pods = False
        await told(kubectl, READY, False, Reason.INVALID_SPEC)
        node.ready_pods = True
        change(kubectl, engine={"template": None})
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        await told(kubectl, READY, True, Reason.SERVING)


async def test_a_child_that_the_cluster_refuses_is_named_with_its_words(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    template = {"spec": {"restartPolicy": "Sometimes"}}
    engine = {"type": "simulated", "template": template}
    async with demo(kubectl, server, tmp_path, gpuCount=1, engine=engine):
        message = await told(kubectl, READY, False, Reason.REFUSED_BY_CLUSTER)
        assert 'Unsupported value: "Sometimes"' in message
        change(kubectl, engine={"template": None})
        await told(kubectl, READY, True, Reason.SERVING)


async def test_a_cluster_that_fails_is_asked_again_until_it_does_not(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path),
    ):
        with failing(kubectl, "services"):
            await until("webhooks are asked", lambda: "failed calling webhook" in kubectl.try_(
                "create", "service", "clusterip", "probe", "--tcp=80"
            ).stderr)  # fmt: skip
            assert kubectl.apply(manifest(kubectl, gpuCount=1)).returncode == 0
            message = await told(kubectl, READY, False, Reason.CLUSTER_ERROR)
            assert "failed calling webhook" in message
        await told(kubectl, READY, True, Reason.SERVING)


async def test_a_namespace_that_ends_is_no_error_of_the_service(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    """The CascadeService is held back, as by a policy that protects it from deletion."""
    async with (
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path, CASCADE_LEADER_ELECTION="false"),
    ):
        assert kubectl.apply(manifest(kubectl, gpuCount=1)).returncode == 0
        await told(kubectl, READY, True, Reason.SERVING)
        with refusing(kubectl, "cascadeservices", "DELETE", "false"):
            await until("the policy is in force", lambda: "refused by the test" in kubectl.try_(
                "delete", "csvc", "demo", "--dry-run=server"
            ).stderr)  # fmt: skip
            kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
            await told(kubectl, PROGRESSING, False, Reason.NAMESPACE_TERMINATING)
    arguments = ("wait", "--for=delete", f"namespace/{kubectl.namespace}", "--timeout=60s")
    await asyncio.to_thread(kubectl, *arguments)
