"""A kind cluster, where a container engine runs."""

import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.audit import Request
from e2e.cluster.binaries import KIND, programs_folder
from e2e.cluster.choice import Facts
from e2e.cluster.clients import clients
from e2e.cluster.errors import ClusterError, Unsupported
from e2e.cluster.folders import locked, state_folder
from e2e.cluster.progress import Progress
from e2e.cluster.shell import run, succeeds

NAME = "cascade"
CREATE_SECONDS = 600.0


@dataclass(frozen=True)
class KindCluster:
    """A cluster whose nodes are containers."""

    kubeconfig: Path
    kubectl_program: Path
    helm: Path
    kind: Path
    provider: str = "kind"

    @property
    def kubectl(self) -> list[str]:
        """Command prefix of kubectl."""
        return [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}"]

    def load_images(self, images: Mapping[str, str]) -> None:
        """`kind load docker-image`."""
        run(
            load_command(self.kind, images),
            doing="loading the images into kind's nodes",
            timeout=CREATE_SECONDS,
        )

    def audit(self) -> list[Request]:
        """Raises Unsupported."""
        raise Unsupported("kind's API server keeps no audit log")

    def kill_component(self, name: str) -> None:
        """Raises Unsupported."""
        raise Unsupported(f"{name} runs under kind's kubelet, which restarts it at once")

    def restart_component(self, name: str) -> None:
        """Raises Unsupported."""
        raise Unsupported(f"{name} runs under kind's kubelet, which restarts it by itself")

    def signal_pod(self, uid: str, number: signal.Signals) -> None:
        """Raises Unsupported."""
        raise Unsupported(
            f"containers run on kind's nodes: pod {uid} is not ours to send {number.name}"
        )


def up(facts: Facts, progress: Progress) -> KindCluster:
    """The kind cluster of that name, made if it is not there. Raises ClusterError."""
    if facts.node_image is None:
        raise ClusterError("kind needs a node image: name one in CASCADE_KIND_IMAGE")
    with locked("kind", progress):
        found = clients(progress)
        kind = kind_program(progress)
        kubeconfig = kubeconfig_path()
        cluster = KindCluster(kubeconfig, found.kubectl, found.helm, kind)
        if kubeconfig.exists() and succeeds([*cluster.kubectl, "get", "--raw=/readyz"]):
            progress(f"the kind cluster {NAME} runs already")
            return cluster
        kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        progress(f"creating the kind cluster {NAME} from {facts.node_image}")
        run(delete_command(kind, kubeconfig), doing="removing a former kind cluster")
        run(
            create_command(kind, facts.node_image, kubeconfig),
            doing="creating the kind cluster",
            hint="`docker ps -a` and `kind export logs` say more.",
            timeout=CREATE_SECONDS,
        )
        return cluster


def down(progress: Progress) -> None:
    """Delete the kind cluster if this user's state says that there is one."""
    kubeconfig = kubeconfig_path()
    if not kubeconfig.parent.exists():
        return
    with locked("kind", progress):
        progress(f"removing the kind cluster {NAME}")
        run(delete_command(kind_program(progress), kubeconfig), doing="removing the kind cluster")
        shutil.rmtree(kubeconfig.parent, ignore_errors=True)


def kind_program(progress: Progress) -> Path:
    """kind from PATH, else built from its Go module."""
    found = shutil.which("kind")
    return Path(found) if found else programs_folder(KIND, progress) / "kind"


def kubeconfig_path() -> Path:
    """Where the kind cluster's kubeconfig lies."""
    return state_folder().with_name("kind") / "kubeconfig"


def create_command(kind: Path, image: str, kubeconfig: Path) -> list[str]:
    """Make a one-node cluster and wait for its node."""
    return [
        str(kind), "create", "cluster", "--name", NAME, "--image", image,
        "--kubeconfig", str(kubeconfig), "--wait", "180s",
    ]  # fmt: skip


def delete_command(kind: Path, kubeconfig: Path) -> list[str]:
    """Remove the cluster; fine if there is none."""
    return [str(kind), "delete", "cluster", "--name", NAME, "--kubeconfig", str(kubeconfig)]


def load_command(kind: Path, images: Mapping[str, str]) -> list[str]:
    """Copy images from the container engine into the nodes."""
    return [str(kind), "load", "docker-image", "--name", NAME, *dict.fromkeys(images.values())]
