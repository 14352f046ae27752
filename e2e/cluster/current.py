"""The user's own cluster, by KUBECONFIG."""

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.audit import Request
from e2e.cluster.choice import IMAGE_REPOSITORY_VARIABLE, Facts
from e2e.cluster.clients import clients
from e2e.cluster.errors import ClusterError, Unsupported
from e2e.cluster.progress import Progress


@dataclass(frozen=True)
class CurrentCluster:
    """A cluster that was there before us and stays after us."""

    kubeconfig: Path
    kubectl_program: Path
    helm: Path
    provider: str = "current"

    @property
    def kubectl(self) -> list[str]:
        """Command prefix of kubectl."""
        return [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}"]

    def load_images(self, images: Mapping[str, str]) -> None:
        """Nothing to do: build_images has pushed them, or the user has put them there."""

    def audit(self) -> list[Request]:
        """Raises Unsupported."""
        raise Unsupported("the audit log of your own cluster is not ours to read")

    def kill_component(self, name: str) -> None:
        """Raises Unsupported."""
        raise Unsupported(f"{name} of your own cluster is not ours to kill")

    def restart_component(self, name: str) -> None:
        """Raises Unsupported."""
        raise Unsupported(f"{name} of your own cluster is not ours to restart")

    def signal_pod(self, uid: str, number: signal.Signals) -> None:
        """Raises Unsupported."""
        raise Unsupported(
            f"nodes of your own cluster are not ours: pod {uid} cannot be sent {number.name}"
        )


def up(facts: Facts, progress: Progress) -> CurrentCluster:
    """Bind kubectl and helm to the user's cluster. Raises ClusterError."""
    if facts.kubeconfig is None:
        raise ClusterError("KUBECONFIG is not set; set it to the kubeconfig of your cluster")
    found = clients(progress)
    if facts.image_repository is None:
        progress(
            f"{IMAGE_REPOSITORY_VARIABLE} is not set: the images will be built but not pushed; "
            "the cluster must be able to find them by their names"
        )
    return CurrentCluster(facts.kubeconfig, found.kubectl, found.helm)
