"""Starting the local cluster: files, namespaces, components, until the node is ready."""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from e2e.cluster import audit, control_plane
from e2e.cluster.certificates import ADMINISTRATOR, KUBELET_CLIENT, Authority, Subject
from e2e.cluster.control_plane import ControlPlane
from e2e.cluster.errors import ClusterError
from e2e.cluster.local import cgroups, node
from e2e.cluster.local.layout import (
    API_PORT,
    API_SERVICE_ADDRESS,
    CONTAINERD_SOCKET,
    DNS_DOMAIN,
    DNS_SERVICE_ADDRESS,
    NODE,
    NODE_ADDRESS,
    PAUSE_IMAGE,
    Layout,
)
from e2e.cluster.local.namespace import entering, open_namespaces
from e2e.cluster.local.processes import died, leader_of, processes_of, start
from e2e.cluster.oci_layout import OciLayout, ScratchImage
from e2e.cluster.progress import Progress
from e2e.cluster.shell import run, succeeds, tail

FIRST_HOST_PORT = 16443
READY_SECONDS = 90.0
POLL_SECONDS = 0.1
BRIDGE_INSIDE = "api-bridge-inside"
BRIDGE_OUTSIDE = "api-bridge-outside"

USERS = {
    "kube-controller-manager": Subject("system:kube-controller-manager"),
    "kube-scheduler": Subject("system:kube-scheduler"),
    "kubelet": Subject(f"system:node:{NODE}", "system:nodes"),
    "kube-proxy": Subject("system:kube-proxy"),
    "coredns": Subject("system:coredns"),
}
API_SERVER_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{DNS_DOMAIN}",
)


def start_cluster(layout: Layout, host_port: int, progress: Progress) -> None:
    """Bring a cluster up in a state folder that is empty; returns when its node is ready.

    Raises ClusterError that names the component at fault and its log.
    """
    write_files(layout, host_port)
    cgroups.make(layout.cgroup)
    init = open_namespaces(layout).pid
    start_components(layout, init, host_port, FIRST_COMPONENTS)
    wait_for(layout, "containerd to answer", lambda: _containerd_answers(init))
    import_images(init, OciLayout(layout.state / "pause"), [PAUSE_IMAGE])
    wait_for(layout, "the API server to be ready", lambda: api_is_ready(layout))
    progress("API server ready")
    start_components(layout, init, host_port, LATER_COMPONENTS)
    apply_dns(layout)
    wait_for(layout, "the node to be Ready", lambda: _node_is_ready(layout))
    wait_for(layout, "service names to resolve", lambda: _names_resolve(init))
    wait_for(layout, "the default ServiceAccount", lambda: _has_service_account(layout))


def plane(layout: Layout) -> ControlPlane:
    """The control plane of this cluster, as its components see it."""
    return ControlPlane(
        folder=layout.inside,
        programs=layout.programs,
        address="0.0.0.0",
        port=API_PORT,
        etcd_port=2379,
        etcd_peer_port=2380,
        advertised=NODE_ADDRESS,
        has_controllers=True,
        has_node=True,
    )


def commands(layout: Layout, init: int, host_port: int) -> dict[str, list[str]]:
    """Command line of every component, as it is run on the host, in the order of their start."""
    control = plane(layout)
    inside = {
        "etcd": control_plane.etcd(control),
        "kube-apiserver": control_plane.api_server(control),
        "containerd": node.containerd(layout),
        BRIDGE_INSIDE: [
            "socat",
            f"UNIX-LISTEN:{layout.inside / layout.api_socket},fork,unlink-early,mode=600",
            f"TCP:127.0.0.1:{API_PORT}",
        ],
        "kube-controller-manager": control_plane.controller_manager(control),
        "kube-scheduler": control_plane.scheduler(control),
        "kubelet": node.kubelet(layout),
        "kube-proxy": node.proxy(layout),
        "coredns": node.coredns(layout),
    }
    outside = [
        "socat",
        f"TCP-LISTEN:{host_port},bind=127.0.0.1,reuseaddr,fork",
        f"UNIX-CONNECT:{layout.api_socket}",
    ]
    prefix = entering(init)
    return {
        **{component: [*prefix, *command] for component, command in inside.items()},
        BRIDGE_OUTSIDE: outside,
    }


FIRST_COMPONENTS = ("etcd", "kube-apiserver", "containerd", BRIDGE_INSIDE, BRIDGE_OUTSIDE)
LATER_COMPONENTS = (
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


def start_components(layout: Layout, init: int, host_port: int, names: Sequence[str]) -> None:
    """Start these components, in their order."""
    lines = commands(layout, init, host_port)
    for name in names:
        start(layout.state, name, lines[name], {"GOTRACEBACK": "single"})


def write_files(layout: Layout, host_port: int) -> None:
    """Certificates, kubeconfigs and configuration files into the state folder."""
    layout.state.mkdir(parents=True, exist_ok=True)
    layout.state.chmod(0o700)
    config = layout.state / "config"
    authority = Authority(layout.state / "pki")
    authority.service_account_key()
    authority.server(
        "kube-apiserver", API_SERVER_NAMES, [API_SERVICE_ADDRESS, NODE_ADDRESS, "127.0.0.1"]
    )
    authority.server("kubelet-server", [NODE], [NODE_ADDRESS])
    authority.client("kubelet-client", KUBELET_CLIENT)
    for name, subject in USERS.items():
        authority.kubeconfig(config / name, name, subject, f"https://127.0.0.1:{API_PORT}")
    files = {**node.files(layout), control_plane.AUDIT_POLICY: json.dumps(audit.POLICY)}
    for name, content in files.items():
        path = config / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    pause = ScratchImage(PAUSE_IMAGE, {"pause": layout.programs / "pause"}, ["/pause"])
    OciLayout(layout.state / "pause").add(pause)
    # Last, because its presence says that the rest is there.
    authority.kubeconfig(
        layout.kubeconfig, "admin", ADMINISTRATOR, f"https://127.0.0.1:{host_port}"
    )


def free_host_port() -> int:
    """A port on the host's loopback for the API server, the usual one if it is free."""
    for port in range(FIRST_HOST_PORT, FIRST_HOST_PORT + 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ClusterError(
        f"no free port for the API server between {FIRST_HOST_PORT} and {FIRST_HOST_PORT + 99} "
        "on 127.0.0.1: end what listens there and run again."
    )


def wait_for(layout: Layout, what: str, holds: Callable[[], bool]) -> None:
    """Poll until it holds. Raises ClusterError at the deadline or when a component has died."""
    deadline = time.monotonic() + READY_SECONDS
    while not holds():
        raise_if_died(layout)
        if time.monotonic() > deadline:
            raise ClusterError(
                f"waited {READY_SECONDS:.0f} s for {what} in vain. The components' logs are in "
                f"{layout.logs}; kubelet.log and containerd.log usually say why."
            )
        time.sleep(POLL_SECONDS)


def raise_if_died(layout: Layout) -> None:
    """Raise ClusterError for the first component that was started and is gone."""
    processes = processes_of(layout.state)
    for name in (*FIRST_COMPONENTS, *LATER_COMPONENTS):
        if (layout.logs / f"{name}.log").exists() and leader_of(processes, name) is None:
            raise died(layout.state, name)


def kubectl(layout: Layout) -> list[str]:
    """Command prefix of kubectl on the host."""
    return [str(layout.programs / "kubectl"), f"--kubeconfig={layout.kubeconfig}"]


def api_is_ready(layout: Layout) -> bool:
    """Whether the API server answers through the bridge."""
    return succeeds([*kubectl(layout), "get", "--raw=/readyz", "--request-timeout=2s"], timeout=5)


def ctr(init: int) -> list[str]:
    """Command prefix of containerd's client, for the images that kubelet sees."""
    prefix = entering(init, processes=False)
    return [*prefix, "ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]


def import_images(init: int, images: OciLayout, references: Iterable[str]) -> None:
    """Import images into the node. Raises ClusterError with containerd's words."""
    wanted = list(references)
    with tempfile.TemporaryFile() as words:
        client = subprocess.Popen(
            [*ctr(init), "images", "import", "--digests=false", "-"],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
        )
        assert client.stdin is not None
        with client, contextlib.suppress(BrokenPipeError):
            images.write_archive(wanted, client.stdin)
        if client.returncode != 0:
            words.seek(0)
            raise ClusterError(
                f"importing {', '.join(wanted)} into the node failed:\n"
                f"{tail(words.read().decode(errors='replace'))}"
            )


def _containerd_answers(init: int) -> bool:
    return succeeds([*ctr(init), "version"], timeout=5)


def apply_dns(layout: Layout) -> None:
    """Put the DNS Service into the cluster."""
    manifest = {"apiVersion": "v1", "kind": "List", "items": node.dns_objects()}
    run(
        [*kubectl(layout), "apply", "--server-side", "-f", "-"],
        doing="making the DNS Service",
        stdin=json.dumps(manifest),
    )


def _node_is_ready(layout: Layout) -> bool:
    query = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    done = subprocess.run(
        [*kubectl(layout), "get", "node", NODE, "-o", query],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() == "True"


def _has_service_account(layout: Layout) -> bool:
    return succeeds([*kubectl(layout), "-n", "default", "get", "serviceaccount", "default"])


def _names_resolve(init: int) -> bool:
    """Whether the DNS Service answers, seen from the node: proves kube-proxy and CoreDNS."""
    prober = Path(__file__).with_name("dns_probe.py")
    name = f"kubernetes.default.svc.{DNS_DOMAIN}"
    prefix = ["nsenter", "--target", str(init), "--net", "--"]
    return succeeds([*prefix, sys.executable, "-I", prober, DNS_SERVICE_ADDRESS, name])
