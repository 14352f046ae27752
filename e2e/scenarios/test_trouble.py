"""What keeps instances from running is said in the cluster's own words, and is over when it is."""

from dataclasses import dataclass
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.service import Service
from e2e.scenarios.stories import apply_service

pytestmark = pytest.mark.cluster


def _pod(**spec: Any) -> JsonObject:
    return {"template": {"spec": spec}}


def _engine(**container: Any) -> JsonObject:
    return _pod(containers=[{"name": "engine", **container}])


@dataclass(frozen=True)
class Trouble:
    """A spec that cannot run, what is said of it, and the repair."""

    engine: JsonObject
    reason: Reason
    words: str
    repair: JsonObject | None = None


TROUBLES = {
    "no-node": Trouble(
        _pod(nodeSelector={"gpu": "none-has-it"}),
        Reason.UNSCHEDULABLE,
        "didn't match Pod's node affinity/selector",
        {"template": None},
    ),
    "no-image": Trouble(
        {"image": "localhost/never-built:1"},
        Reason.IMAGE_PULL_FAILED,
        "localhost/never-built:1",
        {"image": None},
    ),
    "crashing": Trouble(
        {"args": ["--no-such-flag"]}, Reason.CONTAINER_CRASHING, "engine", {"args": None}
    ),
    "no-secret": Trouble(
        _engine(envFrom=[{"secretRef": {"name": "not-there"}}]),
        Reason.CONTAINER_NOT_CREATED,
        'secret "not-there" not found',
        {"template": None},
    ),
    "refused": Trouble(
        _pod(hostNetwork=True),
        Reason.POD_REFUSED,
        'violates PodSecurity "restricted',
        {"template": None},
    ),
}


@pytest.fixture
def troubled(namespace: Kubectl) -> dict[str, Service]:
    """All of them side by side: most of the time is spent waiting for the kubelet's patience."""
    return {
        name: apply_service(
            namespace, name, gpuCount=1, engine={"type": "simulated", **trouble.engine}
        )
        for name, trouble in TROUBLES.items()
    }


def _wait_degraded(service: Service, reason: Reason) -> str:
    """Until Degraded is True for this reason; its message."""

    def probe() -> str | None:
        found = service.view().conditions.get("Degraded", {})
        told = (found.get("status"), found.get("reason")) == ("True", reason)
        return str(found["message"]) if told else None

    return until(
        f"{service.name} degraded by {reason}",
        probe,
        seconds=120,
        seen=lambda: service.view().status,
    )


def test_what_keeps_instances_from_running_is_named_and_ends_with_its_cause(
    troubled: dict[str, Service],
) -> None:
    for name, trouble in TROUBLES.items():
        message = _wait_degraded(troubled[name], trouble.reason)
        print(f"{name}: {trouble.reason}: {message}")
        assert trouble.words in message
        ready = troubled[name].view().conditions["Ready"]
        assert (ready["status"], ready["reason"]) == ("False", Reason.STARTING)
    for name, trouble in TROUBLES.items():
        troubled[name].patch(engine=trouble.repair)
    for service in troubled.values():
        view = service.wait_ready(instances=1)
        assert view.conditions["Degraded"]["status"] == "False"


def test_an_exact_quota_stops_no_move_and_is_named_when_it_stops_an_instance(
    namespace: Kubectl,
) -> None:
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "two-pods"},
            "spec": {"hard": {"pods": "2"}},
        }
    )
    service = apply_service(namespace, "squeezed", gpuCount=2)
    service.wait_ready(instances=2)
    warm = {pod.uid for pod in service.pods()}
    service.patch(planning={"boundaries": [1024]})
    until("a stage each", lambda: service.view().status["partition"] == "1|1", seconds=60)
    service.wait_settled()
    assert {pod.uid for pod in service.pods()} == warm
    service.patch(gpuCount=3)
    message = _wait_degraded(service, Reason.QUOTA_EXCEEDED)
    print(f"squeezed: {message}")
    assert "exceeded quota: two-pods" in message
    assert service.view().is_true("Ready")
    namespace.merge("resourcequota", "two-pods", {"spec": {"hard": {"pods": "20"}}})
    service.wait_ready(instances=3, seconds=400)
    service.patch(gpuCount=2)
    until("two are left", lambda: len(service.pods()) == 2, seconds=90, seen=service.pods)
    service.wait_ready(instances=2)
