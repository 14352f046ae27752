"""Instances by gpuCount, by `kubectl scale`, and by an autoscaler: added, or drained and removed.

A scale-in removes exactly the chosen instances: of each stage that has too many those that are not
ready, then the last ones by name. No other pod ends, and no stream is lost.
"""

import json

import pytest

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import Service
from e2e.scenarios.stories import STILL_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

RATE = 1.0
"""Requests a second: the two instances that are left must not be overloaded by it."""
REQUESTS_BETWEEN = 5


def _scale(service: Service) -> JsonObject:
    """The scale subresource, as autoscalers read it."""
    group = f"/apis/{names.GROUP}/{names.VERSION}/namespaces/{service.kubectl.namespace}"
    path = f"{group}/{names.PLURAL}/{service.name}/scale"
    found: JsonObject = json.loads(service.kubectl.run("get", "--raw", path))
    return found


def _autoscaler(service: Service, *, at_most: int) -> JsonObject:
    """An HPA that has no metrics and keeps to its limits nevertheless."""
    target = {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "name": service.name,
    }
    metric = {
        "type": "External",
        "external": {"metric": {"name": "none"}, "target": {"type": "Value", "value": "1"}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": service.name},
        "spec": {
            "scaleTargetRef": target,
            "minReplicas": 1,
            "maxReplicas": at_most,
            "metrics": [metric],
        },
    }


def _stages(service: Service) -> dict[str, list[str]]:
    """Names of the instances by stage."""
    found: dict[str, list[str]] = {}
    for pod in service.pods():
        if pod.bound and not pod.terminating:
            found.setdefault(pod.stage, []).append(pod.name)
    return {stage: sorted(pods) for stage, pods in found.items()}


def _wait(service: Service, *counts: int) -> None:
    """Until the stages have so many ready instances."""
    until(
        f"{service.name} with {counts}",
        lambda: [row["ready"] for row in service.view().status["stages"]] == list(counts),
        seconds=180,
        seen=lambda: service.view().status,
    )
    service.wait_settled()


def _check_scale(service: Service, replicas: int) -> None:
    """/scale has the declared and the present number, and its selector finds exactly the latter."""
    scale = until(
        f"/scale says {replicas}",
        lambda: found if (found := _scale(service))["status"]["replicas"] == replicas else None,
        seconds=30,
        seen=lambda: _scale(service),
    )
    assert scale["spec"]["replicas"] == replicas
    selected = service.kubectl.items("pods", "-l", scale["status"]["selector"])
    ends = {pod["metadata"]["name"] for pod in selected if "deletionTimestamp" in pod["metadata"]}
    running = {pod["metadata"]["name"] for pod in selected} - ends
    assert running == {name for pods in _stages(service).values() for name in pods}


def _check_autoscaler(service: Service) -> None:
    """A real HPA can read and write the number of instances."""
    status = service.kubectl.get("hpa", service.name)["status"]
    able = {one["type"]: one for one in status["conditions"]}["AbleToScale"]
    print(f"HPA: {able['reason']}: {able['message']}; {status['currentReplicas']} replicas")
    assert able["status"] == "True"


def test_scale_in_removes_exactly_the_chosen_instances_and_no_stream(
    platform: Platform, namespace: Kubectl
) -> None:
    planning = {**STILL_PLANNING, "boundaries": [1024]}
    service = apply_service(namespace, "scaled", gpuCount=5, planning=planning)
    service.wait_ready(instances=5)
    _wait(service, 3, 2)
    with (
        PodWatch(service) as watch,
        traffic(platform, service, rate=RATE, duration=900) as load,
    ):
        sent = load.wait_for("sent", REQUESTS_BETWEEN)
        removed = []

        # gpuCount, by apply.
        before = _stages(service)
        service.patch(gpuCount=4)
        _wait(service, 2, 2)
        removed += before["0"][2:]
        assert watch.lost == removed

        # The scale subresource, as `kubectl scale` and autoscalers write it.
        sent = load.wait_for("sent", sent + REQUESTS_BETWEEN)
        before = _stages(service)
        service.kubectl.run("scale", "cascadeservice", service.name, "--replicas=3")
        _wait(service, 2, 1)
        _check_scale(service, 3)
        removed += before["1"][1:]
        assert watch.lost == removed

        # A HorizontalPodAutoscaler, whose own limit is reason enough.
        sent = load.wait_for("sent", sent + REQUESTS_BETWEEN)
        before = _stages(service)
        service.kubectl.apply(_autoscaler(service, at_most=2))
        _wait(service, 1, 1)
        _check_scale(service, 2)
        removed += before["0"][1:]
        assert watch.lost == removed
        _check_autoscaler(service)

        # And back: new instances beside those that stayed.
        service.kubectl.delete("hpa", service.name)
        service.kubectl.run("scale", "cascadeservice", service.name, "--replicas=3")
        _wait(service, 2, 1)
        _check_scale(service, 3)
        load.stop()
        summary = load.summary()
    assert watch.lost == removed
    assert watch.most_bound == 5
    assert_nothing_lost(summary)
    print(f"{summary['requestsSent']} requests, removed {removed}, none lost")
