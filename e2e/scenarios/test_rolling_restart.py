"""Pods are deleted and replaced under traffic, all of them, and no client notices.

Four instances, or six with `--full`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.load import RunningLoad
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import PodFacts, Service
from e2e.scenarios.stories import (
    QUICK_PLANNING,
    STILL_PLANNING,
    apply_service,
    assert_nothing_lost,
    traffic,
)

pytestmark = pytest.mark.cluster

REQUESTS_PER_INSTANCE = 1.0
"""A second; as many seconds of it are under way when the first pod is deleted."""
UNDER_WAY_SECONDS = 3
PINNED_SHARE = 0.3
SECONDS = 900.0
"""For all pods: each waits for its pinned requests to end, on a machine that may be busy."""


@pytest.fixture
def instances(full: bool) -> int:
    return 6 if full else 4


def _serve(namespace: Kubectl, name: str, instances: int) -> Service:
    """Two stages, whose boundary stays where it is."""
    planning = {**QUICK_PLANNING, "boundaries": [1024]}
    service = apply_service(namespace, name, gpuCount=instances, planning=planning)
    service.wait_ready(instances=instances)
    return service


@contextmanager
def _traffic(platform: Platform, service: Service, instances: int) -> Iterator[RunningLoad]:
    """A load under way, some of it pinned."""
    rate = REQUESTS_PER_INSTANCE * instances
    with traffic(platform, service, rate=rate, duration=SECONDS, pinned_share=PINNED_SHARE) as load:
        load.wait_for("inFlight", round(UNDER_WAY_SECONDS * rate))
        yield load


def _wait_replaced(service: Service, old: list[PodFacts], instances: int) -> None:
    """Until none of the pods `old` is left, and there are enough others."""
    uids = {pod.uid for pod in old}

    def replaced() -> bool:
        pods = service.pods()
        ready = sum(pod.ready and not pod.terminating for pod in pods)
        return ready == instances and not any(pod.uid in uids for pod in pods)

    what = f"{len(old)} pods of {service.name} replaced"
    until(what, replaced, seconds=SECONDS * len(old) / instances, seen=service.pods)


def _bound(service: Service) -> list[PodFacts]:
    return [pod for pod in service.pods() if pod.bound]


def _check(what: str, summary: JsonObject, namespace: Kubectl) -> None:
    """Nothing was lost, and the kubelet could call every hook."""
    told = ("requestsSent", "requestsCompleted", "streamsWrong", "handovers", "retries", "seconds")
    print(f"{what}: { ({name: summary[name] for name in told}) }, lost {summary['lostReasons']}")
    assert_nothing_lost(summary)
    events = namespace.items("events", "--field-selector", "reason=FailedPreStopHook")
    assert [event["message"] for event in events] == []


def test_a_restart_of_all_deployments_costs_no_request(
    platform: Platform, namespace: Kubectl, instances: int
) -> None:
    service = _serve(namespace, "restarting", instances)
    old = _bound(service)
    with _traffic(platform, service, instances) as load:
        selector = f"{names.LABEL_SERVICE}={service.name}"
        namespace.run("rollout", "restart", "deployments", "-l", selector)
        _wait_replaced(service, old, instances)
        load.stop()
        summary = load.summary()
    _check(f"restart of {len(old)} pods", summary, namespace)


def test_a_changed_template_takes_one_instance_at_a_time_of_all_stages(
    platform: Platform, namespace: Kubectl
) -> None:
    instances = 3
    service = _serve(namespace, "changing", instances)
    service.patch(planning={**STILL_PLANNING, "boundaries": [1024]})
    old = _bound(service)
    with (
        PodWatch(service) as watch,
        traffic(platform, service, rate=instances, duration=SECONDS) as load,
    ):
        load.wait_for("inFlight", instances)
        template = {"metadata": {"annotations": {"story/turn": "2"}}}
        service.patch(engine={"template": template})
        until("an instance is replaced", lambda: watch.lost, seconds=60)
        service.patch(planning={"boundaries": [512, 2048]})
        assert watch.wait_moves(1, seconds=SECONDS) >= 1, "nothing moved"
        stale = {pod.uid for pod in old} & {
            pod.uid for pod in service.pods() if pod.bound and not pod.terminating
        }
        assert not stale, "a pod moved before all were replaced"
        service.wait_settled()
        load.stop()
        summary = load.summary()
    assert watch.most_missing == 1
    assert sorted(watch.lost) == sorted(pod.name for pod in old)
    _check(f"changed template of {len(old)} pods", summary, namespace)


def test_the_deletion_of_all_pods_two_at_a_time_costs_no_request(
    platform: Platform, namespace: Kubectl, instances: int
) -> None:
    service = _serve(namespace, "deleting", instances)
    old = sorted(_bound(service), key=lambda pod: pod.stage)
    half = instances // 2  # One of each stage, mostly.
    with _traffic(platform, service, instances) as load:
        for pair in zip(old[:half], old[half:], strict=True):
            namespace.delete("pod", *(pod.name for pod in pair), "--wait=false")
            _wait_replaced(service, list(pair), instances)
        load.stop()
        summary = load.summary()
    _check(f"deletion of {len(old)} pods", summary, namespace)
