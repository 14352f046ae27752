"""Names, addresses and paths of the local cluster."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

NODE = "cascade-node"
NODE_ADDRESS = "10.200.0.1"
NODE_NETWORK = f"{NODE_ADDRESS}/24"
BRIDGE = "node0"
POD_NETWORK = "10.244.0.0/16"
API_SERVICE_ADDRESS = "10.96.0.1"
DNS_SERVICE_ADDRESS = "10.96.0.10"
DNS_DOMAIN = "cluster.local"
API_PORT = 6443
PAUSE_IMAGE = "localhost/cascade-pause:1"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"


@dataclass(frozen=True)
class Layout:
    """Paths of one cluster.

    `state` is the folder on the host. The cluster's processes see it as `inside`, a short path
    under a /run of their own: some of them put Unix sockets there, whose paths are limited to
    107 bytes.
    """

    state: Path
    programs: Path
    cni: Path
    inside: Path = Path("/run/cascade")

    @property
    def cgroup(self) -> str:
        """Name of the pods' control group; each state folder has another."""
        return f"cascadeservice-{hashlib.sha256(str(self.state).encode()).hexdigest()[:8]}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, for use on the host."""
        return self.state / "kubeconfig"

    @property
    def logs(self) -> Path:
        """One file a component, on the host."""
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        """Keys and certificates, as the components see them."""
        return self.inside / "pki"

    @property
    def config(self) -> Path:
        """Configuration files, as the components see them."""
        return self.inside / "config"

    @property
    def api_socket(self) -> str:
        """The Unix socket through which the host reaches the API server; in the state folder."""
        return "api.sock"
