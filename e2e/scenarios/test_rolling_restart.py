"""Pods are deleted and replaced under traffic, all of them, and no client notices."""

import pytest

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.platform import Platform
from e2e.harness.service import Service
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

INSTANCES = 6
RATE = 6
IN_FLIGHT = 20
"""Requests under way when the first pod is deleted."""
PINNED_SHARE = 0.3
SECONDS = 900.0
"""For all pods: each waits for its pinned requests to end, on a machine that may be busy."""


def _serve(namespace: Kubectl, name: str) -> Service:
    """Two stages, whose boundary stays where it is."""
    planning = {**QUICK_PLANNING, "boundaries": [1024]}
    service = apply_service(namespace, name, gpuCount=INSTANCES, planning=planning)
    service.wait_ready(instances=INSTANCES)
    return service


def _wait_replaced(service: Service, old: set[str], seconds: float) -> None:
    """Until none of the pods with the uids `old` is left, and there are enough others."""

    def replaced() -> bool:
        pods = service.pods()
        ready = sum(pod.ready and not pod.terminating for pod in pods)
        return ready == INSTANCES and not any(pod.uid in old for pod in pods)

    until(
        f"{len(old)} pods of {service.name} replaced", replaced, seconds=seconds, seen=service.pods
    )


def _check(what: str, summary: JsonObject, namespace: Kubectl) -> None:
    """Nothing was lost, and the kubelet could call every hook."""
    told = ("requestsSent", "requestsCompleted", "streamsWrong", "handovers", "retries", "seconds")
    print(f"{what}: { ({name: summary[name] for name in told}) }, lost {summary['lostReasons']}")
    assert_nothing_lost(summary)
    events = namespace.items("events", "--field-selector", "reason=FailedPreStopHook")
    assert [event["message"] for event in events] == []


def test_a_restart_of_all_deployments_costs_no_request(
    platform: Platform, namespace: Kubectl
) -> None:
    service = _serve(namespace, "restarting")
    old = {pod.uid for pod in service.pods() if pod.bound}
    with traffic(platform, service, rate=RATE, duration=SECONDS, pinned_share=PINNED_SHARE) as load:
        load.wait_for("inFlight", IN_FLIGHT)
        selector = f"{names.LABEL_SERVICE}={service.name}"
        namespace.run("rollout", "restart", "deployments", "-l", selector)
        _wait_replaced(service, old, SECONDS)
        load.stop()
        summary = load.summary()
    _check(f"restart of {len(old)} pods", summary, namespace)


def test_the_deletion_of_one_pod_after_the_other_costs_no_request(
    platform: Platform, namespace: Kubectl
) -> None:
    service = _serve(namespace, "deleting")
    with traffic(platform, service, rate=RATE, duration=SECONDS, pinned_share=PINNED_SHARE) as load:
        load.wait_for("inFlight", IN_FLIGHT)
        for pod in [pod for pod in service.pods() if pod.bound]:
            namespace.delete("pod", pod.name, "--wait=false")
            _wait_replaced(service, {pod.uid}, SECONDS / INSTANCES)
        load.stop()
        summary = load.summary()
    _check(f"deletion of {INSTANCES} pods", summary, namespace)
