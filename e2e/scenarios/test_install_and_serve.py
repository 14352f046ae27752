"""A user installs the chart, applies a CascadeService, and has an OpenAI endpoint."""

import pytest

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import Platform
from e2e.harness.service import MODEL
from e2e.scenarios.stories import apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster


def test_apply_becomes_ready_serves_and_settles(platform: Platform, namespace: Kubectl) -> None:
    service = apply_service(namespace, "first", gpuCount=3)

    view = service.wait_ready(instances=3)

    assert view.status["instances"] == 3
    assert [stage["ready"] for stage in view.status["stages"]] == [3]
    header, row = namespace.run("get", "cascadeservices", "first").splitlines()
    assert header.split() == ["NAME", "MODEL", "GPUS", "STAGES", "READY", "REASON", "AGE"]
    assert row.split()[1:5] == [MODEL, "3", "3", "True"]
    wide = namespace.run("get", "csvc", "first", "-o", "wide").splitlines()[0]
    assert wide.split() == [*header.split(), "PLANNED", "GAIN"]
    namespace.run("wait", "--for=condition=Ready", "cascadeservice/first", "--timeout=10s")

    with traffic(platform, service, rate=3, duration=8) as load:
        assert_nothing_lost(load.summary())


def test_pods_belong_to_the_service_and_are_gated_until_lifted(namespace: Kubectl) -> None:
    service = apply_service(namespace, "owned", gpuCount=2)
    uid = service.wait_ready(instances=2).body["metadata"]["uid"]

    pods = namespace.items("pods", "-l", f"{names.LABEL_SERVICE}=owned")

    assert len(pods) == 2
    for pod in pods:
        owners = pod["metadata"]["ownerReferences"]
        assert uid in [owner["uid"] for owner in owners if not owner.get("controller")]
        assert pod["metadata"]["labels"][names.LABEL_LENGTH_RANGE]
        assert not pod["spec"].get("schedulingGates")
    body = service.view().body
    assert "finalizers" not in body["metadata"]


def test_a_settled_service_is_left_alone(namespace: Kubectl) -> None:
    service = apply_service(namespace, "calm", gpuCount=2)
    service.wait_ready(instances=2)
    kinds = (
        "deployments,services,configmaps,secrets,serviceaccounts,roles,rolebindings,"
        "poddisruptionbudgets,pods,cascadeservices"
    )

    def versions() -> dict[str, str]:
        return {
            f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for item in namespace.items(kinds)
        }

    previous, quiet = versions(), 0

    def unchanged_for_three_looks() -> bool:
        nonlocal previous, quiet
        now = versions()
        quiet = quiet + 1 if now == previous else 0
        previous = now
        return quiet >= 3

    # Three looks, each longer apart than a planning interval: passes happened in between.
    until("no write in three intervals", unchanged_for_three_looks, seconds=90, every=4.0)
