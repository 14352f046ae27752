"""The services of former releases are taken over as they are: no pod is lost by an upgrade."""

import tomllib
from pathlib import Path

import pytest

from cascade_policy import names
from e2e.cluster import ApiServer
from tests.operator.api import release
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods, settled

pytestmark = pytest.mark.api_server

RELEASES = Path(__file__).parent / "releases"
PROJECT = Path(__file__).parents[3] / "pyproject.toml"
PRESENT = RELEASES / f"{tomllib.loads(PROJECT.read_text())['project']['version']}.json"
IS_KEPT = PRESENT.exists()


def templates(kubectl: Kubectl) -> dict[str, object]:
    return {
        item["metadata"]["name"]: item["spec"]["template"] for item in kubectl.items("deployments")
    }


async def keep_present(kubectl: Kubectl, server: ApiServer, folder: Path) -> None:
    """Write down what the present release makes of a service; done once, before it is released."""
    async with kubelet(server, kubectl.namespace), operator(server, kubectl.namespace, folder):
        planning = {"boundaries": [512]}
        assert kubectl.apply(manifest(kubectl, gpuCount=4, planning=planning)).returncode == 0
        await until("two stages", lambda: settled(kubectl, 2, 2))
        PRESENT.write_text(release.keep(kubectl, "demo"))


@pytest.mark.parametrize(
    "kept", sorted({PRESENT, *RELEASES.glob("*.json")}), ids=lambda path: path.stem
)
async def test_a_service_of_a_former_release_is_taken_over_without_a_restart(
    kubectl: Kubectl,
    server: ApiServer,
    tmp_path: Path,
    kept: Path,
    request: pytest.FixtureRequest,
) -> None:
    if not IS_KEPT:
        assert request.config.getoption("--refresh-golden"), (
            f"{PRESENT.name} is missing: keep what this release makes with --refresh-golden"
        )
        await keep_present(kubectl, server, tmp_path)
        pytest.skip("this release is kept now; run again without --refresh-golden")
    async with kubelet(server, kubectl.namespace) as node:
        await release.restore(kubectl, kept)
        await until(
            "all pods run",
            lambda: all(pod["status"].get("phase") == "Running" for pod in kubectl.items("pods")),
        )
        warm, before = pods(kubectl), templates(kubectl)
        kubectl("patch", "csvc", "demo", "--type=merge",
                "-p", '{"spec":{"planning":{"boundaries":[1024]}}}')  # fmt: skip
        async with operator(server, kubectl.namespace, tmp_path):
            await until("taken over", lambda: settled(kubectl, 2, 2))
            ranges = {one["metadata"]["labels"][names.LABEL_LENGTH_RANGE]
                      for one in kubectl.items("pods")}  # fmt: skip
        assert ranges == {"0-1024", "1025-16384"}, "it works under the new operator"
        assert pods(kubectl) == warm
        assert templates(kubectl) == before
        assert node.killed == set()
