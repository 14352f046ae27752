"""Fewer GPUs than declared: it is said, every stage gets of those there are, and the rest follows.

The GPUs are an extended resource that a node is made to have.
"""

import json
from collections.abc import Callable, Iterator

import pytest

from cascade_operator.reasons import Reason
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.scenarios.stories import apply_service

pytestmark = pytest.mark.cluster

RESOURCE = "story.example.org/gpu"


@pytest.fixture
def provide(operator: Kubectl) -> Iterator[Callable[[int], None]]:
    """Sets how many such GPUs there are in the cluster; there are none afterwards."""
    node = operator.items("nodes")[0]["metadata"]["name"]
    path = f"/status/capacity/{RESOURCE.replace('/', '~1')}"

    def patch(**operation: str) -> None:
        text = json.dumps([{**operation, "path": path}])
        operator.run("patch", "node", node, "--subresource=status", "--type=json", "-p", text)

    yield lambda number: patch(op="add", value=str(number))
    patch(op="remove")


def test_a_partial_service_serves_in_every_stage_and_becomes_whole(
    namespace: Kubectl, provide: Callable[[int], None]
) -> None:
    provide(3)
    limits = {"resources": {"limits": {RESOURCE: "1"}}}
    template = {"spec": {"containers": [{"name": "engine", **limits}]}}
    service = apply_service(
        namespace, "partial", gpuCount=4, engine={"type": "simulated", "template": template}
    )
    service.wait_ready(instances=3)
    degraded = service.view().conditions["Degraded"]
    assert (degraded["status"], degraded["reason"]) == ("True", Reason.UNSCHEDULABLE)
    assert f"Insufficient {RESOURCE}" in degraded["message"]
    warm = {pod.uid for pod in service.pods() if pod.ready}

    service.patch(planning={"boundaries": [1024, 4096]})
    until(
        "one that is ready in each of three stages",
        lambda: sorted(pod.stage for pod in service.pods() if pod.ready) == ["0", "1", "2"],
        seconds=60,
        seen=service.pods,
    )
    assert {pod.uid for pod in service.pods() if pod.ready} == warm

    provide(4)
    service.wait_ready(instances=4)
    service.wait_settled()
    assert warm < {pod.uid for pod in service.pods()}
