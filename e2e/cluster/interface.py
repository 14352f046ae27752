"""What every provider of a cluster offers to the demo, the scenarios and the tests."""

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from e2e.cluster.audit import Request


class Cluster(Protocol):
    """A running Kubernetes cluster."""

    @property
    def provider(self) -> str:
        """`current`, `kind` or `local`."""
        ...

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig that works from the host."""
        ...

    @property
    def kubectl(self) -> list[str]:
        """Command prefix of kubectl, bound to this cluster."""
        ...

    @property
    def helm(self) -> Path:
        """A helm 3 binary."""
        ...

    def load_images(self, images: Mapping[str, str]) -> None:
        """Make images (role to reference, from build_images) known to the nodes.

        Raises ClusterError.
        """
        ...

    def kill_component(self, name: str) -> None:
        """SIGKILL to a component, such as `kube-controller-manager`.

        Raises Unsupported where the components are not ours to kill.
        """
        ...

    def audit(self) -> list[Request]:
        """All requests of service accounts so far, the cluster's own left out.

        Raises Unsupported where no audit log is ours to read.
        """
        ...

    def restart_component(self, name: str) -> None:
        """Start a component again. Raises Unsupported as kill_component does."""
        ...

    def signal_pod(self, uid: str, number: signal.Signals) -> None:
        """Send a signal to what runs in the containers of a pod, without the kubelet's knowledge.

        Raises Unsupported where the node is not ours, ClusterError where nothing of it runs.
        """
        ...
