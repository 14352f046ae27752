"""A real API server with the real controllers, the CRD in it, and the operator as a process."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import client, config

from cascade_operator.cluster import Cluster
from e2e.cluster import ApiServer
from tests.operator.api.kubelet import Kubelet
from tests.operator.builders import IMAGES

CRD = Path(__file__).parents[3] / "crds" / "cascadeservice.yaml"
PATIENCE_SECONDS = 40.0
COLLECTOR_SECONDS = 90.0
"""Until the children of a deleted owner are gone. It takes a second, but the garbage collector asks
every 30 s only which kinds there are, and stands still until it knows the objects of a new one."""


@pytest.fixture(scope="session")
def server(api_server: ApiServer) -> ApiServer:
    """The API server, with the CRD established."""
    kubectl = [*api_server.kubectl]
    subprocess.run([*kubectl, "apply", "-f", str(CRD)], check=True, capture_output=True)
    subprocess.run(
        [*kubectl, "wait", "--for=condition=Established", "--timeout=30s", "-f", str(CRD)],
        check=True,
        capture_output=True,
    )
    return api_server


@dataclass(frozen=True)
class Kubectl:
    """kubectl in one namespace."""

    command: list[str]
    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        """Standard output; the error's text as AssertionError."""
        done = self.try_(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def try_(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.command, "-n", self.namespace, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def apply(self, manifest: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return self.try_("apply", "-f", "-", stdin=json.dumps(manifest))

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "-o", "json"))

    def items(self, kind: str, *arguments: str) -> list[Any]:
        return list(self.json("get", kind, *arguments)["items"])


@pytest.fixture
def kubectl(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """A namespace of the test's own."""
    namespace = f"op-{abs(hash(request.node.name)) % 10**8}"
    tool = Kubectl(server.kubectl, namespace)
    tool("create", "namespace", namespace)
    yield tool
    tool.try_("delete", "namespace", namespace, "--wait=false")


async def until(what: str, probe: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of `probe`, which is asked again and again; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := await asyncio.to_thread(probe)):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.1)
    return value


@asynccontextmanager
async def kubelet(server: ApiServer, namespace: str) -> AsyncIterator[Kubelet]:
    """Pods of the namespace run while the block does."""
    configuration = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(server.kubeconfig), client_configuration=configuration
    )
    async with client.ApiClient(configuration) as api_client:
        node = Kubelet(Cluster(api_client), namespace)
        task = asyncio.create_task(node.run())
        try:
            yield node
        finally:
            node.stop()
            await task


@dataclass
class Operator:
    """The operator's process."""

    process: subprocess.Popen[bytes]
    log: Path


def _start(variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "cascade_operator"],
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )


@asynccontextmanager
async def operator(
    server: ApiServer, namespace: str, folder: Path, identity: str = "one", **environment: str
) -> AsyncIterator[Operator]:
    """The operator, watching one namespace, until the end of the block."""
    log = folder / f"operator-{identity}.log"
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")},
        "KUBECONFIG": str(server.kubeconfig),
        "CASCADE_ROUTER_IMAGE": IMAGES.router,
        "CASCADE_SIMULATED_ENGINE_IMAGE": IMAGES.simulated_engine,
        "CASCADE_WATCH_NAMESPACES": namespace,
        "CASCADE_NAMESPACE": namespace,
        "CASCADE_POD_NAME": identity,
        "CASCADE_HEALTH_LISTEN": "127.0.0.1:0",
        "CASCADE_RESYNC_SECONDS": "2",
        **environment,
    }
    process = _start(variables, log)
    try:
        yield Operator(process, log)
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
