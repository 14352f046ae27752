"""Ready is what clients find: with the last engine it goes, with the first one it comes back."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.conditions import (
    DEGRADED,
    METRICS_AVAILABLE,
    PLAN_APPLIED,
    PROGRESSING,
    READY,
    ROUTER_READY,
)
from cascade_operator.reasons import Reason
from e2e.cluster import ApiServer
from tests.operator.api.admission import refusing
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.demo import demo
from tests.operator.api.test_crd import manifest
from tests.operator.api.told import announced, change, told

pytestmark = pytest.mark.api_server


async def wait_for(kubectl: Kubectl, condition: str) -> None:
    """As a user or a pipeline waits."""
    arguments = ("wait", f"--for=condition={condition}", "cascadeservice/demo", "--timeout=40s")
    await asyncio.to_thread(kubectl, *arguments)


def endpoints(kubectl: Kubectl) -> list[str]:
    """Addresses to which the front Service sends clients."""
    slices = kubectl.items("endpointslices", "-l", "kubernetes.io/service-name=demo")
    return [
        address
        for one in slices
        for endpoint in one["endpoints"] or ()
        if endpoint["conditions"].get("ready")
        for address in endpoint["addresses"]
    ]


async def test_ready_goes_with_the_last_engine_and_comes_back_with_the_first(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        node.ready_pods = False
        assert kubectl.apply(manifest(kubectl, gpuCount=2)).returncode == 0
        await told(kubectl, READY, False, Reason.STARTING)
        await told(kubectl, PROGRESSING, True, Reason.STARTING_INSTANCES)
        await told(kubectl, DEGRADED, False, Reason.STARTING_INSTANCES)
        await told(kubectl, ROUTER_READY, False, Reason.ROUTERS_NOT_RUNNING)

        node.ready_pods = True
        await wait_for(kubectl, "Ready")
        await told(kubectl, READY, True, Reason.SERVING)
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        await told(kubectl, DEGRADED, False, Reason.ALL_INSTANCES_READY)
        await told(kubectl, ROUTER_READY, True, Reason.ROUTERS_RUNNING)
        await told(kubectl, METRICS_AVAILABLE, False, Reason.PROMETHEUS_NOT_CONFIGURED)
        await until("clients are sent to both", lambda: len(endpoints(kubectl)) == 2)

        node.crashing, node.ready_pods = True, False
        await wait_for(kubectl, "Ready=false")
        message = await told(kubectl, READY, False, Reason.NO_INSTANCE_READY)
        assert "none of 2 instances is ready any more" in message
        message = await told(kubectl, DEGRADED, True, Reason.CONTAINER_CRASHING)
        assert "back-off 10s restarting failed container=engine" in message
        await announced(kubectl, Reason.NO_INSTANCE_READY)
        await until("clients are sent nowhere", lambda: not endpoints(kubectl))

        node.crashing, node.ready_pods = False, True
        await wait_for(kubectl, "Ready")
        await told(kubectl, DEGRADED, False, Reason.ALL_INSTANCES_READY)

        node.ready_pods = False
        await told(kubectl, READY, False, Reason.NO_INSTANCE_READY)
        await told(kubectl, DEGRADED, True, Reason.INSTANCES_NOT_READY)
        node.ready_pods = True
        await wait_for(kubectl, "Ready")


def selector(kubectl: Kubectl) -> dict[str, Any]:
    return dict(kubectl.json("get", "service", "demo")["spec"]["selector"])


async def test_a_front_service_that_finds_no_pod_is_mended_or_takes_ready_away(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    elsewhere = '{"spec":{"selector":{"team":"blue"}}}'
    async with demo(kubectl, server, tmp_path, gpuCount=1):
        await told(kubectl, READY, True, Reason.SERVING)
        ours = selector(kubectl)
        kubectl("patch", "service", "demo", "-p", elsewhere)
        await until("the selector is ours again", lambda: selector(kubectl) == ours)
        await until("clients are sent there", lambda: endpoints(kubectl))
        with refusing(kubectl, "services", "UPDATE", "has(object.spec.selector.team)"):
            await until("the policy is in force", lambda: "refused by the test" in kubectl.try_(
                "label", "service", "demo", "probe=yes", "--dry-run=server"
            ).stderr)  # fmt: skip
            kubectl("patch", "service", "demo", "-p", elsewhere)
            message = await told(kubectl, READY, False, Reason.REFUSED_BY_CLUSTER)
            assert "Service demo" in message
        # It would be tried again within half a minute; an event of the Service is a reason to.
        kubectl("label", "service", "demo", "probe=yes")
        await told(kubectl, READY, True, Reason.SERVING)
        assert selector(kubectl) == ours


async def test_what_is_under_way_is_told_while_it_is(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        node.room = 2
        assert kubectl.apply(manifest(kubectl, gpuCount=4)).returncode == 0
        words = "2 of 4 instances are not ready"
        message = await told(kubectl, DEGRADED, True, Reason.UNSCHEDULABLE, words=words)
        assert "Insufficient nvidia.com/gpu" in message
        await told(kubectl, READY, True, Reason.SERVING)
        await told(kubectl, PLAN_APPLIED, True, Reason.PROMETHEUS_NOT_CONFIGURED)
        node.room = 4
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)

        change(kubectl, planning={"boundaries": [512]})
        await announced(kubectl, Reason.MOVING_INSTANCES)
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        change(kubectl, gpuCount=3)
        await announced(kubectl, Reason.REMOVING_INSTANCES)
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)

        node.ready_pods = False
        await told(kubectl, READY, False, Reason.NO_INSTANCE_READY)
        change(kubectl, engine={"args": ["--seed=7"]})
        await told(kubectl, PROGRESSING, True, Reason.ROLLING_OUT)
        await told(kubectl, PLAN_APPLIED, False, Reason.WAITING_FOR_ROLLOUT)
        node.ready_pods = True
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        await told(kubectl, PLAN_APPLIED, True, Reason.PROMETHEUS_NOT_CONFIGURED)
