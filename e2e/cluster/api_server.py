"""The API server alone, for tests of things that only talk to it.

etcd and kube-apiserver, and the controller manager if asked for, on free loopback ports. No node:
pods stay pending. Up in a few seconds, gone with the block, and gone with its process when that
is killed.
"""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster import control_plane
from e2e.cluster.binaries import KUBERNETES, programs_folder
from e2e.cluster.certificates import ADMINISTRATOR, Authority, Subject
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.packages import CERTIFICATE_PROGRAMS, install, missing_packages
from e2e.cluster.progress import Progress, Stopwatch
from e2e.cluster.shell import succeeds, tail

READY_SECONDS = 60.0
END_SECONDS = 10.0


@dataclass(frozen=True)
class ApiServer:
    """A running API server. `kubectl` is a command prefix; `url` is on loopback, TLS."""

    kubeconfig: Path
    url: str
    kubectl: list[str]
    helm: Path


@dataclass(frozen=True)
class _Component:
    name: str
    process: subprocess.Popen[bytes]
    log: Path


@contextlib.contextmanager
def api_server(
    progress: Progress | None = None,
    *,
    controllers: bool = False,
    controller_qps: int | None = None,
) -> Iterator[ApiServer]:
    """Run an API server for the time of the block.

    With `controllers`, Deployments make ReplicaSets, ReplicaSets make pods, owners collect their
    children and namespaces get their ServiceAccounts; each controller may make `controller_qps`
    requests per second, 20 by default. Must be entered in a thread that outlives the block (the
    components end with the thread that started them).

    Builds the binaries the first time, which takes minutes. Raises ClusterError.
    """
    say = progress or Stopwatch()
    programs = programs_folder(KUBERNETES, say)
    install(missing_packages(CERTIFICATE_PROGRAMS), say)
    folder = Path(tempfile.mkdtemp(prefix="cascade-api-"))
    components: list[_Component] = []
    try:
        limit = controller_qps
        yield _start(folder, programs, components, controllers=controllers, controller_qps=limit)
    finally:
        _end(components)
        shutil.rmtree(folder, ignore_errors=True)


def _start(
    folder: Path,
    programs: Path,
    components: list[_Component],
    *,
    controllers: bool,
    controller_qps: int | None,
) -> ApiServer:
    """Start the components, adding each to `components`, until the server is ready."""
    port, etcd_port, peer_port = _free_ports(3)
    plane = ControlPlane(
        folder=folder,
        programs=programs,
        address="127.0.0.1",
        port=port,
        etcd_port=etcd_port,
        etcd_peer_port=peer_port,
        advertised=None,
        has_controllers=controllers,
        has_node=False,
        controller_qps=controller_qps,
    )
    url = f"https://127.0.0.1:{port}"
    kubeconfig = _write_files(folder, url)
    components.append(_component(folder, "etcd", control_plane.etcd(plane)))
    components.append(_component(folder, "kube-apiserver", control_plane.api_server(plane)))
    kubectl = [str(programs / "kubectl"), f"--kubeconfig={kubeconfig}"]
    _wait_until(components, [*kubectl, "get", "--raw=/readyz", "--request-timeout=2s"])
    if controllers:
        manager = control_plane.controller_manager(plane)
        components.append(_component(folder, "kube-controller-manager", manager))
        # Made by one of the last controllers to start.
        _wait_until(components, [*kubectl, "get", "serviceaccount", "default"])
    return ApiServer(kubeconfig, url, kubectl, programs / "helm")


def _write_files(folder: Path, url: str) -> Path:
    """Certificates and kubeconfigs; the administrator's."""
    authority = Authority(folder / "pki")
    authority.service_account_key()
    authority.server("kube-apiserver", ["localhost", "kubernetes.default.svc"], ["127.0.0.1"])
    manager = "kube-controller-manager"
    authority.kubeconfig(folder / "config" / manager, manager, Subject(f"system:{manager}"), url)
    authority.kubeconfig(folder / "kubeconfig", "admin", ADMINISTRATOR, url)
    return folder / "kubeconfig"


def _component(folder: Path, name: str, command: Sequence[str]) -> _Component:
    """Start one component; the kernel ends it when the thread that started it ends."""
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    return _Component(name, process, log)


def _wait_until(components: Sequence[_Component], command: Sequence[str]) -> None:
    """Repeat a command until it succeeds; ClusterError when a component ends or time is up."""
    deadline = time.monotonic() + READY_SECONDS
    while not succeeds(command, timeout=5):
        ended = [part for part in components if part.process.poll() is not None]
        if ended or time.monotonic() > deadline:
            culprit = (ended or list(components))[-1]
            words = tail(culprit.log.read_text(errors="replace"))
            state = "ended by itself" if ended else f"was not ready after {READY_SECONDS:.0f} s"
            raise ClusterError(f"{culprit.name} {state}. Its last words:\n{words}")
        time.sleep(0.1)


def _end(components: Sequence[_Component]) -> None:
    """End the components, those that depend on others first."""
    for component in reversed(components):
        component.process.terminate()
        try:
            component.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            component.process.kill()
            component.process.wait()


def _free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
