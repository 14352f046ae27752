"""A CascadeService is deleted: nothing of it stays, with or without an operator to help."""

import pytest

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import SYSTEM_NAMESPACE, Platform, delete_service
from e2e.scenarios.stories import QUICK_PLANNING, apply_service

pytestmark = pytest.mark.cluster

CHILDREN = (
    "deployments,replicasets,pods,services,endpointslices,configmaps,secrets,serviceaccounts,"
    "roles,rolebindings,poddisruptionbudgets"
)


def children_of(namespace: Kubectl, name: str) -> list[str]:
    return namespace.run(
        "get", CHILDREN, "-l", f"{names.LABEL_SERVICE}={name}", "-o", "name"
    ).split()


def test_deleting_a_service_deletes_all_its_children(namespace: Kubectl) -> None:
    service = apply_service(
        namespace, "gone", gpuCount=3, planning={**QUICK_PLANNING, "boundaries": [1024]}
    )
    service.wait_ready(instances=3)
    service.wait_settled()
    assert len(children_of(namespace, "gone")) > 10

    delete_service(service)

    until(
        "no child is left",
        lambda: not children_of(namespace, "gone"),
        seconds=60,
        seen=lambda: children_of(namespace, "gone"),
    )


def test_a_namespace_can_be_deleted_after_the_operator_was_uninstalled(
    platform: Platform,
) -> None:
    namespace = platform.create_namespace("story-uninstalled")
    service = apply_service(namespace, "left", gpuCount=2)
    service.wait_ready(instances=2)

    platform.helm.uninstall(SYSTEM_NAMESPACE)
    try:
        platform.kubectl.run("delete", "namespace", "story-uninstalled", timeout=120)
    finally:
        platform.install()

    assert "story-uninstalled" not in platform.kubectl.run("get", "namespaces", "-o", "name")
