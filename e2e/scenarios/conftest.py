"""The stage on which every story plays: one cluster, one release, a namespace for each story.

`CASCADE_CLUSTER` chooses the provider (auto, current, kind, local).
"""

import os
import subprocess
import uuid
from collections.abc import Iterator

import pytest

from cascade_policy import names
from e2e import cluster as clusters
from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.platform import SYSTEM_NAMESPACE, Platform


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--full", action="store_true", help="long stories in full, where tests/run shortens them"
    )


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether long stories are to be told in full."""
    return bool(request.config.getoption("--full"))


def say(words: str) -> None:
    """Progress of long steps, visible with `pytest -s`."""
    print(words, flush=True)


@pytest.fixture(scope="session")
def platform() -> Platform:
    """A cluster with the chart installed, both left running for the next run."""
    requested = os.environ.get("CASCADE_CLUSTER", "auto")
    try:
        choice = clusters.choose(None if requested == "auto" else requested)
    except clusters.ClusterError as error:
        if requested != "auto":
            raise
        pytest.skip(str(error))
    cluster = clusters.up(choice, say)
    return Platform.prepare(cluster, say)


@pytest.fixture
def namespace(platform: Platform) -> Iterator[Kubectl]:
    """A namespace that enforces the restricted Pod Security level; deleted afterwards."""
    name = f"story-{uuid.uuid4().hex[:8]}"
    platform.create_namespace(name)
    kubectl = platform.kubectl.within(name)
    yield kubectl
    for line in _faults_of_routers(kubectl):
        print(line)
    platform.kubectl.run("delete", "namespace", name, "--wait=false")


def _faults_of_routers(kubectl: Kubectl) -> list[str]:
    """What their logs call an error: the report of a story that fails shows it, and the pods that
    could tell are gone by then."""
    try:
        logs = kubectl.run(
            "logs", "-l", names.LABEL_SERVICE, "-c", names.CONTAINER_ROUTER,
            "--tail=-1", "--prefix", "--max-log-requests=64", "--ignore-errors",
        )  # fmt: skip
    except (KubectlFailed, subprocess.TimeoutExpired) as error:
        return [f"the routers' logs could not be read: {error}"]
    return [line for line in logs.splitlines() if " ERROR " in line]


@pytest.fixture
def operator(platform: Platform) -> Kubectl:
    """kubectl in the namespace of the release."""
    return platform.kubectl.within(SYSTEM_NAMESPACE)
