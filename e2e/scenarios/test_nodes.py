"""Instances are evicted, and lost with their node, while others move: all stages are whole again.

The cluster has one node, so its loss is played by what comes of it: the pods go at once and without
notice, as when the controller that collects the pods of a deleted node removes them.
"""

import json

import pytest

from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import Service
from e2e.scenarios.stories import STILL_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

INSTANCES = 4
REQUESTS_BETWEEN = 5


def _evict(service: Service, pod: str) -> bool:
    """What `kubectl drain` does to each pod of a node; False where the budget forbids it."""
    namespace = service.kubectl.namespace
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    try:
        service.kubectl.run("create", "--raw", path, "-f", "-", stdin=json.dumps(body))
    except KubectlFailed as error:
        if "disruption budget" not in error.stderr:
            raise
        return False
    return True


def _split(service: Service, *boundaries: int) -> None:
    service.patch(planning={**STILL_PLANNING, "boundaries": list(boundaries)})


def _wait_told(service: Service, *words: str) -> str:
    """An event of a lost instance with all these words."""

    def probe() -> str | None:
        selector = f"reason={Reason.INSTANCE_LOST},involvedObject.kind={names.KIND}"
        for event in service.kubectl.items("events", "--field-selector", selector):
            if all(word in event["message"] for word in words):
                return str(event["message"])
        return None

    return until(f"an event with {words}", probe, seconds=60)


def test_a_drain_in_the_middle_of_moves_takes_one_instance_at_a_time(
    platform: Platform, namespace: Kubectl
) -> None:
    service = apply_service(namespace, "drained", gpuCount=INSTANCES, planning=STILL_PLANNING)
    service.wait_ready(instances=INSTANCES)
    old = [pod.name for pod in service.pods() if pod.bound]
    with (
        PodWatch(service) as watch,
        traffic(platform, service, rate=2, duration=900) as load,
    ):
        load.wait_for("sent", REQUESTS_BETWEEN)
        _split(service, 1024)
        assert watch.wait_moves(1, seconds=60) >= 1, "nothing moved"
        first, second = old[:2]
        until(f"{first} evicted", lambda: _evict(service, first), seconds=60)
        assert not _evict(service, second), "the budget allowed two instances to be away"
        print(_wait_told(service, first, "EvictionByEvictionAPI"), flush=True)
        until(f"{second} evicted", lambda: _evict(service, second), seconds=120, every=1)
        _wait_told(service, second, "EvictionByEvictionAPI")
        service.wait_settled()
        load.stop()
        summary = load.summary()
    assert_nothing_lost(summary)
    assert sorted(watch.lost) == sorted(old[:2])
    assert watch.most_bound <= INSTANCES
    assert {pod.name for pod in service.pods()} >= set(old[2:])


def test_instances_that_go_with_their_node_in_the_middle_of_moves_are_replaced(
    platform: Platform, namespace: Kubectl
) -> None:
    service = apply_service(namespace, "bereft", gpuCount=INSTANCES, planning=STILL_PLANNING)
    service.wait_ready(instances=INSTANCES)
    with (
        PodWatch(service) as watch,
        traffic(platform, service, rate=2, duration=900) as load,
    ):
        load.wait_for("sent", REQUESTS_BETWEEN)
        _split(service, 1024)
        assert watch.wait_moves(1, seconds=60) >= 1, "nothing moved"
        moved = watch.moved[0].pod
        others = [pod.name for pod in service.pods() if pod.bound and pod.name != moved]
        gone = [moved, others[0]]
        namespace.delete("pods", *gone, "--grace-period=0", "--force")
        # kubectl deletes one after the other, so the operator may see and tell them apart.
        for pod in gone:
            print(_wait_told(service, pod, "lost"), flush=True)
        service.wait_ready(instances=INSTANCES)
        view = service.wait_settled()
        load.stop()
        summary = load.summary()
    assert [stage["instances"] for stage in view.plan_stages] == [2, 2]
    # What a pod was just doing for a client that spoke to it is gone with it; nothing else is.
    print({name: summary[name] for name in ("requestsSent", "requestsCompleted", "requestsLost",
           "retries", "streamsWrong", "lostReasons")})  # fmt: skip
    assert summary["streamsWrong"] == 0, summary
    assert sorted(watch.lost) == sorted(gone)
    kept = set(others[1:])
    assert {pod.name for pod in service.pods() if pod.bound} > kept
    assert watch.restarted == []
