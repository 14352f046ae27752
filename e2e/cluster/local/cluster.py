"""The local cluster as its users see it."""

import json
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from e2e.cluster import binaries
from e2e.cluster.audit import Request, requests_of
from e2e.cluster.builders import docker_runs
from e2e.cluster.control_plane import AUDIT_LOG
from e2e.cluster.errors import ClusterError
from e2e.cluster.folders import locked, state_folder
from e2e.cluster.images import build_for, image_layout
from e2e.cluster.local import start as starting
from e2e.cluster.local.layout import Layout
from e2e.cluster.local.namespace import HOLDER
from e2e.cluster.local.pod_processes import processes_of_pod
from e2e.cluster.local.processes import Process, child_of, has_ended, kill, leader_of, processes_of
from e2e.cluster.local.processes import start as start_process
from e2e.cluster.local.removal import remove
from e2e.cluster.packages import (
    IMAGE_PROGRAMS,
    NODE_PROGRAMS,
    cni_folder,
    install,
    missing_packages,
)
from e2e.cluster.progress import Progress
from e2e.cluster.shell import run

LOCK = "local-cluster"
KILL_SECONDS = 10.0


class LocalCluster:
    """Kubernetes in namespaces of its own on this machine."""

    provider = "local"

    def __init__(self, layout: Layout, host_port: int) -> None:
        self._layout = layout
        self._host_port = host_port

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use on the host."""
        return self._layout.kubeconfig

    @property
    def kubectl(self) -> list[str]:
        """Command prefix of kubectl."""
        return starting.kubectl(self._layout)

    @property
    def helm(self) -> Path:
        """The helm binary."""
        return self._layout.programs / "helm"

    @property
    def logs(self) -> Path:
        """The folder of the components' logs."""
        return self._layout.logs

    @property
    def inside(self) -> list[str]:
        """Command prefix that runs a program of the host in the cluster's network."""
        return ["nsenter", "--target", str(self._init()), "--net", "--"]

    def load_images(self, images: Mapping[str, str]) -> None:
        """Import images (role to reference) that the node does not hold yet."""
        init = self._init()
        listing = run([*starting.ctr(init), "images", "list", "-q"], doing="listing images")
        present = set(listing.split())
        missing = [reference for reference in images.values() if reference not in present]
        if missing:
            starting.import_images(init, image_layout(), missing)

    def audit(self) -> list[Request]:
        """All requests of service accounts since the cluster started."""
        with (self._layout.logs / AUDIT_LOG).open() as log:
            return requests_of(log)

    def kill_component(self, name: str) -> None:
        """End a component with SIGKILL; it stays away until it is restarted."""
        self._check_component(name)
        deadline = time.monotonic() + KILL_SECONDS
        killed: set[Process] = set()
        while True:
            processes = processes_of(self._layout.state)
            found = [child_of(processes, name), leader_of(processes, name)]
            living = [process for process in found if process is not None]
            killed.update(living)
            if not living and all(map(has_ended, killed)):
                return
            if time.monotonic() > deadline:
                raise ClusterError(f"{name} does not end, though it was sent SIGKILL")
            for process in living:
                kill(process)
            time.sleep(0.02)

    def restart_component(self, name: str) -> None:
        """Start a component that was killed; kills it first where it still runs."""
        self.kill_component(name)
        commands = starting.commands(self._layout, self._init(), self._host_port)
        start_process(self._layout.state, name, commands[name], {})

    def signal_pod(self, uid: str, number: signal.Signals) -> None:
        """Send a signal to what runs in the containers of a pod."""
        found = processes_of_pod(uid)
        if not found:
            raise ClusterError(f"nothing of the pod with uid {uid} runs on this machine")
        for process in found:
            os.kill(process, number)

    def is_current(self) -> bool:
        """Whether it runs the programs that this checkout would build."""
        return self._layout.programs == binaries.folder_of(binaries.KUBERNETES)

    def is_healthy(self) -> bool:
        """Whether everything that was started still runs and the API server answers."""
        try:
            starting.raise_if_died(self._layout)
        except ClusterError:
            return False
        init = child_of(processes_of(self._layout.state), HOLDER)
        return init is not None and starting.api_is_ready(self._layout)

    def _check_component(self, name: str) -> None:
        known = (*starting.FIRST_COMPONENTS, *starting.LATER_COMPONENTS)
        if name not in known:
            raise ClusterError(f"there is no component {name}; there are {', '.join(known)}")

    def _init(self) -> int:
        init = child_of(processes_of(self._layout.state), HOLDER)
        if init is None:
            raise ClusterError("the local cluster does not run: `python -m e2e.cluster up`")
        return init.pid


def up(progress: Progress, *, with_images: bool = True) -> LocalCluster:
    """A running local cluster: the one that runs, else a new one.

    Removes what a killed run left behind. `with_images` builds the project's images beside the
    cluster's programs, which saves time when nothing is built yet. Raises ClusterError.
    """
    if os.geteuid() != 0:
        raise ClusterError(
            "the local cluster needs root (namespaces, mounts, containerd). Run as root, or use "
            "a KUBECONFIG of yours or kind: --cluster current, --cluster kind."
        )
    with locked(LOCK, progress):
        running = attach()
        if running is not None and running.is_current() and running.is_healthy():
            progress(f"the local cluster runs already ({running.kubeconfig})")
            return running
        with ThreadPoolExecutor() as pool:
            node = pool.submit(_install_packages, progress)
            if with_images and not binaries.is_built(binaries.KUBERNETES):
                pool.submit(_build_images_ahead, node, progress)
            programs = binaries.programs_folder(binaries.KUBERNETES, progress)
            return _start_afresh(Layout(state_folder(), programs, node.result()), progress)


def _build_images_ahead(packages: Future[Path], progress: Progress) -> None:
    """Build the images while the cluster's programs compile.

    A failure is told, and told again with its reason when the images are asked for.
    """
    packages.result()
    try:
        build_for("local", progress)
    except ClusterError as error:
        progress(f"the images are not ready: {error}")


def _start_afresh(layout: Layout, progress: Progress) -> LocalCluster:
    """Remove what an earlier run left, then start."""
    if layout.state.exists():
        progress(f"removing what an earlier run left in {layout.state}")
    remove(layout.state, layout.cgroup)
    return _start(layout, progress)


def _start(layout: Layout, progress: Progress) -> LocalCluster:
    """Start a new cluster; a failed start leaves nothing but its logs."""
    port = starting.free_host_port()
    progress(f"starting Kubernetes {binaries.KUBERNETES_VERSION} (logs in {layout.logs})")
    layout.state.mkdir(parents=True, exist_ok=True)
    try:
        starting.start_cluster(layout, port, progress)
    except BaseException:
        remove(layout.state, layout.cgroup, keep_logs=True)
        raise
    record = {"hostPort": port, "programs": str(layout.programs), "cni": str(layout.cni)}
    _record(layout.state).write_text(json.dumps(record))
    progress(f"node ready: export KUBECONFIG={layout.kubeconfig}")
    return LocalCluster(layout, port)


def _install_packages(progress: Progress) -> Path:
    """Install what a node and the images need; the folder of the network plugins."""
    image_programs = {} if docker_runs() else IMAGE_PROGRAMS
    packages = set(missing_packages({**NODE_PROGRAMS, **image_programs}))
    if cni_folder() is None:
        packages.add("containernetworking-plugins")
    install(packages, progress)
    found = cni_folder()
    if found is None:
        raise ClusterError("no container network plugins (ptp, host-local) were found")
    return found


def attach() -> LocalCluster | None:
    """The cluster of this state folder as its record names it, running or not."""
    record = _record(state_folder())
    if not record.exists():
        return None
    content = json.loads(record.read_text())
    layout = Layout(state_folder(), Path(content["programs"]), Path(content["cni"]))
    return LocalCluster(layout, int(content["hostPort"]))


def down(progress: Progress) -> None:
    """Remove the local cluster, or what is left of one."""
    with locked(LOCK, progress):
        layout = Layout(state_folder(), Path("/"), Path("/"))
        if not layout.state.exists() and not processes_of(layout.state):
            progress("no local cluster runs")
            return
        progress("removing the local cluster")
        remove(layout.state, layout.cgroup)
        progress("nothing of it is left (binaries and images stay in the cache)")


def _record(state: Path) -> Path:
    return state / "cluster.json"
