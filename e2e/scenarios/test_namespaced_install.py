"""An install for one namespace beside the one of the cluster: each looks after its own, and nobody
can make two of them fight over a service."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.cluster import Unsupported
from e2e.cluster.audit import Request
from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import OPERATOR_SELECTOR, SYSTEM_NAMESPACE, Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.release import HelmFailed, values
from e2e.scenarios.stories import QUICK_PLANNING, apply_service

pytestmark = pytest.mark.cluster

RELEASE = "team"
INSTANCES = 2


@dataclass(frozen=True)
class Teams:
    """The namespace of a team that brings its own operator, where that has its own, and the
    namespace of a team that does not."""

    own: Kubectl
    system: Kubectl
    other: Kubectl


@pytest.fixture
def teams(platform: Platform) -> Iterator[Teams]:
    """Their namespaces, gone afterwards, and what was installed with them."""
    number = uuid.uuid4().hex[:8]
    names = [f"story-own-{number}", f"team-{number}", f"story-other-{number}"]
    with ExitStack() as stack:
        for name in names:
            stack.callback(platform.kubectl.run, "delete", "namespace", name, "--wait=false")
        stack.callback(platform.helm.uninstall, names[1], release=RELEASE)
        yield Teams(*map(platform.create_namespace, names))


def _values(platform: Platform, *namespaces: str) -> dict[str, Any]:
    url = f"http://cascade-prometheus.{SYSTEM_NAMESPACE}.svc:9090"
    return {
        **values(platform.images),
        "watchNamespaces": list(namespaces),
        "replicas": 1,
        "prometheus": {"bundled": False, "url": url},
    }


def _requests(platform: Platform, system: str, since: float) -> list[Request]:
    """What the operator of an install has asked for."""
    try:
        found = platform.cluster.audit()
    except Unsupported as error:
        pytest.skip(str(error))
    return [one for one in found if one.namespace == system and one.at > since]


def _written(requests: list[Request]) -> set[str]:
    """Namespaces of what was changed, the Lease aside."""
    return {one.within for one in requests if one.wrote and one.right.resource != "leases"}


def test_an_operator_of_one_namespace_beside_that_of_the_cluster(
    platform: Platform, operator: Kubectl, teams: Teams
) -> None:
    own, system = teams.own.namespace, teams.system.namespace
    services = [
        apply_service(team, "both", gpuCount=INSTANCES) for team in (teams.own, teams.other)
    ]
    for service in services:
        service.wait_ready(instances=INSTANCES)
    with PodWatch(services[0]) as watch:
        platform.helm.install(system, _values(platform, own), release=RELEASE)
        began = time.time()
        for service in services:
            service.patch(planning={**QUICK_PLANNING, "boundaries": [1024]})
        for service in services:
            service.wait_settled(seconds=60)
        of_team = _requests(platform, system, 0.0)
        assert {one.within for one in of_team} == {own, system}
        assert [one for one in of_team if one.forbidden] == []
        assert _written(of_team) == {own}
        of_cluster = _requests(platform, SYSTEM_NAMESPACE, began)
        assert _written(of_cluster) == {teams.other.namespace}
        left = f"{own}/both is left to the operator"
        assert left in operator.run("logs", "-l", OPERATOR_SELECTOR, "--tail=-1")

        for watched in ((own,), ()):
            with pytest.raises(HelmFailed, match="cannot be imported into the current release"):
                platform.helm.install(system, _values(platform, *watched), release="second")

        platform.helm.uninstall(system, release=RELEASE)
        services[0].patch(planning={**QUICK_PLANNING, "boundaries": [4096]}, gpuCount=INSTANCES + 1)
        services[0].wait_ready(instances=INSTANCES + 1)
    assert (watch.lost, watch.restarted, watch.broken) == ([], [], False)
