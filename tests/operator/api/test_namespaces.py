"""Operators of single namespaces and of the whole cluster, with no more rights than the chart
gives them."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from tests.operator.api.accounts import install_rights, kubeconfig
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods, settled

pytestmark = pytest.mark.api_server


@pytest.fixture
def others(kubectl: Kubectl) -> Iterator[tuple[Kubectl, Kubectl]]:
    """Two more namespaces."""
    made = [Kubectl(kubectl.command, f"{kubectl.namespace}-{name}") for name in ("b", "c")]
    for tool in made:
        tool("create", "namespace", tool.namespace)
    yield made[0], made[1]
    for tool in made:
        tool.try_("delete", "namespace", tool.namespace, "--wait=false")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def readiness(port: int) -> tuple[int, str]:
    """Status and words of /readyz."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def move(kubectl: Kubectl, *boundaries: int) -> None:
    patch = json.dumps({"spec": {"planning": {"boundaries": boundaries}}})
    kubectl("patch", "csvc", "demo", "--type=merge", "-p", patch)


async def test_the_operator_of_the_cluster_leaves_a_namespace_to_its_own_operator(
    kubectl: Kubectl, others: tuple[Kubectl, Kubectl], server: ApiServer, tmp_path: Path
) -> None:
    elsewhere, system = others
    wide_rights = install_rights(server, system)
    wide_config = kubeconfig(system, tmp_path)
    try:
        async with (
            kubelet(server, kubectl.namespace) as node,
            kubelet(server, elsewhere.namespace),
            operator(
                server, system.namespace, tmp_path, "wide",
                KUBECONFIG=wide_config, CASCADE_WATCH_NAMESPACES="",
            ) as wide,
        ):  # fmt: skip
            for tool in (kubectl, elsewhere):
                assert tool.apply(manifest(tool, gpuCount=4)).returncode == 0
            await until("both are served", lambda: settled(kubectl, 4) and settled(elsewhere, 4))
            warm = pods(kubectl)

            narrow_rights = install_rights(server, kubectl, kubectl.namespace)
            narrow_config = kubeconfig(kubectl, tmp_path)
            async with operator(
                server, kubectl.namespace, tmp_path, "narrow", KUBECONFIG=narrow_config
            ) as narrow:
                left = f"{kubectl.namespace}/demo is left to the operator"
                await until("it is left alone", lambda: left in wide.log.read_text())
                await move(kubectl, 1024)
                await move(elsewhere, 1024)
                await until("both are moved", lambda: (
                    settled(kubectl, 2, 2) and settled(elsewhere, 2, 2)
                ))  # fmt: skip
                assert movers(kubectl.namespace, wide.log, narrow.log) == ["narrow"]
                assert movers(elsewhere.namespace, wide.log, narrow.log) == ["wide"]

            bindings = [item for item in narrow_rights if item["kind"] == "RoleBinding"]
            for binding in bindings:
                kubectl("delete", "rolebinding", binding["metadata"]["name"])
            kubectl("scale", "csvc", "demo", "--replicas=6")
            await until("it is looked after again", lambda: settled(kubectl, 3, 3), 60)
            assert set(warm) < set(pods(kubectl))
            assert node.killed == set()
    finally:
        for item in wide_rights:
            if item["kind"].startswith("Cluster"):
                system("delete", item["kind"], item["metadata"]["name"])


def movers(namespace: str, *logs: Path) -> list[str]:
    """Which operators say that they moved a pod there."""
    return [
        log.stem.removeprefix("operator-")
        for log in logs
        if any(
            f"{namespace}/demo: pod" in line and "moves to stage" in line
            for line in log.read_text().splitlines()
        )
    ]


async def test_an_operator_says_in_which_namespace_it_lacks_rights_and_serves_the_others(
    kubectl: Kubectl, others: tuple[Kubectl, Kubectl], server: ApiServer, tmp_path: Path
) -> None:
    forbidden, untold = others
    install_rights(server, kubectl, kubectl.namespace)
    port = free_port()
    async with (
        kubelet(server, kubectl.namespace),
        kubelet(server, forbidden.namespace),
        operator(
            server, kubectl.namespace, tmp_path,
            KUBECONFIG=kubeconfig(kubectl, tmp_path),
            CASCADE_WATCH_NAMESPACES=f"{kubectl.namespace},{forbidden.namespace}",
            CASCADE_HEALTH_LISTEN=f"127.0.0.1:{port}",
        ) as running,
    ):  # fmt: skip
        for tool in (kubectl, forbidden, untold):
            assert tool.apply(manifest(tool, gpuCount=2)).returncode == 0
        await until("what it may see is served", lambda: settled(kubectl, 2))
        complaint = f"no CascadeService in namespace {forbidden.namespace} is looked after"
        log = running.log.read_text()
        assert log.count(complaint) == 1
        assert log.count("cannot list resource") == 1
        assert readiness(port) == (503, f"no right to look into namespace {forbidden.namespace}\n")

        install_rights(server, kubectl, kubectl.namespace, forbidden.namespace)
        await until("the other one as well", lambda: settled(forbidden, 2), 60)
        await until("it is ready", lambda: readiness(port)[0] == 200)
        assert "status" not in untold.json("get", "csvc", "demo")
        assert untold.items("pods") == []
