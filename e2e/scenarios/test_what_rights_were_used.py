"""Least privilege: what the chart and the operator grant is what all stories together used.

Comes last by its name, since the stories before it are what it looks back on.
"""

from collections.abc import Iterable
from pathlib import Path

import pytest

from cascade_policy import names
from e2e.cluster import Unsupported
from e2e.cluster.audit import Request, Right, granted, used
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.platform import SYSTEM_NAMESPACE, Platform
from e2e.scenarios.stories import apply_service

pytestmark = pytest.mark.cluster

APPLIED = (
    ("", "configmaps"),
    ("", "secrets"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("apps", "deployments"),
    ("policy", "poddisruptionbudgets"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
)
NOT_SEEN = {
    "cascade-operator": {
        # An apply is a patch in the log, and needs the right to create where there is no object.
        *(Right(group, resource, "create") for group, resource in APPLIED),
        # Given on to sidecars: nobody may give what he has not.
        *(Right("discovery.k8s.io", "endpointslices", verb) for verb in ("list", "watch")),
        # What OwnerReferencesPermissionEnforcement asks of who sets an owner that waits for it.
        Right("cascadeservice.dev", "cascadeservices/finalizers", "update"),
    },
    # Its client lists where the API server cannot send what is there through a watch.
    "cascade-prometheus": {Right("", "pods", "list")},
}
"""Rights that are needed although the log does not show their use."""


@pytest.fixture
def requests(request: pytest.FixtureRequest, platform: Platform) -> list[Request]:
    """All that service accounts have asked for in the stories."""
    stories = set(Path(__file__).parent.glob("test_*.py"))
    if {item.path for item in request.session.items} != stories:
        pytest.skip("looks back on all stories: run the folder as a whole")
    try:
        return platform.cluster.audit()
    except Unsupported as error:
        pytest.skip(str(error))


def _bound(within: Kubectl, account: str) -> set[Right]:
    """What the Roles and ClusterRoles bound to an account of a namespace give it."""
    rights: set[Right] = set()
    for kind in ("clusterrolebindings", "rolebindings"):
        for binding in within.items(kind):
            if (within.namespace, account) in _subjects(binding):
                role = binding["roleRef"]
                rights |= granted(within.get(role["kind"].lower(), role["name"])["rules"])
    return rights


def _subjects(binding: JsonObject) -> list[tuple[str | None, str]]:
    return [(one.get("namespace"), one["name"]) for one in binding.get("subjects", ())]


def _spare(held: set[Right], requests: Iterable[Request]) -> list[str]:
    """Rights that were never used, in words."""
    return [str(right) for right in sorted(held - set(used(requests)))]


def _lacking(held: set[Right], requests: Iterable[Request]) -> list[Request]:
    """Refused requests for what is not granted; one that comes after a Role was deleted, by an
    account that ends as well, is none."""
    return [one for one in requests if one.forbidden and one.right not in held]


@pytest.mark.parametrize("account", NOT_SEEN)
def test_accounts_of_the_chart_have_the_rights_that_they_use_and_no_others(
    operator: Kubectl, requests: list[Request], account: str
) -> None:
    own = [one for one in requests if (one.namespace, one.account) == (SYSTEM_NAMESPACE, account)]
    print(f"{account}: { ({str(right): count for right, count in sorted(used(own).items())}) }")
    held = _bound(operator, account)
    assert held
    assert _lacking(held, own) == []
    assert _spare(held - NOT_SEEN[account], own) == []


def test_sidecars_have_the_rights_that_they_use_and_no_others(
    namespace: Kubectl, requests: list[Request]
) -> None:
    service = apply_service(namespace, "narrow", gpuCount=1)
    service.wait_ready(instances=1)
    held = _bound(namespace, names.sidecar_account_name(service.name))
    own = [one for one in requests if one.namespace.startswith("story-")]
    assert held
    assert _lacking(held, own) == []
    assert _spare(held, own) == []
