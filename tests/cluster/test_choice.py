"""Which provider is chosen, and what a user is told when there is none."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from e2e.cluster.choice import Facts, decide
from e2e.cluster.errors import ClusterError

NOTHING = Facts()
ROOT_WITH_GO = Facts(is_root=True, has_go=True)
DOCKER = replace(ROOT_WITH_GO, is_docker_running=True, node_image="kindest/node:v1")
OWN = replace(DOCKER, kubeconfig=Path("own"), is_kubeconfig_reachable=True)
OWN_WITH_REGISTRY = replace(OWN, image_repository="registry.example/team")


@dataclass(frozen=True)
class Case:
    """A machine, what was asked for, and the wanted provider with a word of its reason."""

    requested: str | None
    facts: Facts
    provider: str
    reason: str


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(None, OWN_WITH_REGISTRY, "current", "API server answers"),
            id="the user's own cluster comes first when images can get there",
        ),
        pytest.param(
            Case(None, OWN, "kind", "not current: CASCADE_IMAGE_REPOSITORY is not set"),
            id="a cluster that merely happens to be configured is left alone",
        ),
        pytest.param(
            Case("current", OWN, "current", "asked for"),
            id="asked for, the user's own cluster does without a registry",
        ),
        pytest.param(
            Case(None, DOCKER, "kind", "node image kindest/node:v1"),
            id="kind comes before Kubernetes on the bare machine",
        ),
        pytest.param(
            Case(None, replace(DOCKER, node_image=None), "local", "neither here nor can it"),
            id="without a node image a container engine is of no use",
        ),
        pytest.param(
            Case(None, ROOT_WITH_GO, "local", "not kind: no container engine"),
            id="root with Go and nothing else",
        ),
        pytest.param(
            Case("local", OWN_WITH_REGISTRY, "local", "asked for"),
            id="what is asked for beats what is best",
        ),
    ],
)
def test_choice(case: Case) -> None:
    choice = decide(case.requested, case.facts)

    assert choice.provider == case.provider
    assert case.reason in choice.reason


@pytest.mark.parametrize(
    ("requested", "facts", "told"),
    [
        pytest.param(None, NOTHING, "only root", id="nothing works: each way is told"),
        pytest.param(None, NOTHING, "KUBECONFIG is not set", id="nothing works: own cluster"),
        pytest.param(None, NOTHING, "start docker", id="nothing works: kind"),
        pytest.param(
            "local", replace(NOTHING, is_root=True), "Go 1.25 or newer", id="local without Go"
        ),
        pytest.param("local", replace(ROOT_WITH_GO, is_linux=False), "not Linux", id="no Linux"),
        pytest.param(
            "current",
            replace(NOTHING, kubeconfig=Path("own")),
            "own does not work",
            id="own cluster that is down",
        ),
        pytest.param("kind", ROOT_WITH_GO, "docker info", id="kind without an engine"),
        pytest.param("minikube", OWN, "no provider minikube", id="unknown provider"),
    ],
)
def test_refusal_says_what_is_missing(requested: str | None, facts: Facts, told: str) -> None:
    with pytest.raises(ClusterError, match=told):
        decide(requested, facts)


def test_a_refusal_of_what_was_asked_for_speaks_of_nothing_else() -> None:
    with pytest.raises(ClusterError) as refused:
        decide("kind", NOTHING)

    assert "KUBECONFIG" not in str(refused.value)
