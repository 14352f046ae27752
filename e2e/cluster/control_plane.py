"""Command lines of the control plane: etcd, API server, controller manager, scheduler.

Pure: paths and ports in, argument lists out. The same builders serve the whole local cluster and
the API server alone.
"""

from dataclasses import dataclass
from pathlib import Path

SERVICE_NETWORK = "10.96.0.0/16"
AUDIT_POLICY = "audit-policy.json"
AUDIT_LOG = "audit.log"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@dataclass(frozen=True)
class ControlPlane:
    """Where a control plane keeps its files and listens.

    `folder` holds `pki/`, `config/` and etcd's data. `address` is what the API server listens on,
    `advertised` what it tells clients inside the cluster, or None when there are none.
    `controller_qps` are the requests per second that each controller may make, None for
    Kubernetes' own limit of 20.
    """

    folder: Path
    programs: Path
    address: str
    port: int
    etcd_port: int
    etcd_peer_port: int
    advertised: str | None
    has_controllers: bool
    has_node: bool
    controller_qps: int | None = None

    @property
    def etcd_url(self) -> str:
        """Where the API server finds etcd."""
        return f"http://127.0.0.1:{self.etcd_port}"


def etcd(plane: ControlPlane) -> list[str]:
    """etcd without fsync: its data never outlives the cluster."""
    peer = f"http://127.0.0.1:{plane.etcd_peer_port}"
    return [
        str(plane.programs / "etcd"),
        "--name=etcd",
        f"--data-dir={plane.folder / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={plane.etcd_url}",
        f"--advertise-client-urls={plane.etcd_url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=etcd={peer}",
        "--log-level=warn",
    ]


def api_server(plane: ControlPlane) -> list[str]:
    """kube-apiserver with Node and RBAC authorisation."""
    pki = plane.folder / "pki"
    command = [
        str(plane.programs / "kube-apiserver"),
        f"--etcd-servers={plane.etcd_url}",
        f"--bind-address={plane.address}",
        f"--secure-port={plane.port}",
        f"--advertise-address={plane.advertised or plane.address}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'kube-apiserver.crt'}",
        f"--tls-private-key-file={pki / 'kube-apiserver.key'}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        f"--service-account-issuer={ISSUER}",
        f"--service-account-key-file={pki / 'sa.pub'}",
        f"--service-account-signing-key-file={pki / 'sa.key'}",
    ]
    if plane.advertised is None:
        command.append("--endpoint-reconciler-type=none")
    if not plane.has_controllers:
        # Nobody makes the default ServiceAccount that every pod would need.
        command.append("--disable-admission-plugins=ServiceAccount")
    if plane.has_node:
        command += [
            "--enable-admission-plugins=NodeRestriction",
            f"--kubelet-certificate-authority={pki / 'ca.crt'}",
            f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
            f"--kubelet-client-key={pki / 'kubelet-client.key'}",
            # The node's name is known to no resolver.
            "--kubelet-preferred-address-types=InternalIP",
            f"--audit-policy-file={plane.folder / 'config' / AUDIT_POLICY}",
            f"--audit-log-path={plane.folder / 'logs' / AUDIT_LOG}",
            # Kept whole for as long as the cluster lives; megabytes.
            "--audit-log-maxsize=1000",
        ]
    return command


def controller_manager(plane: ControlPlane) -> list[str]:
    """kube-controller-manager without leader election: it is alone."""
    pki = plane.folder / "pki"
    limit = plane.controller_qps
    return [
        str(plane.programs / "kube-controller-manager"),
        f"--kubeconfig={plane.folder / 'config' / 'kube-controller-manager'}",
        "--bind-address=127.0.0.1",
        *([] if plane.has_node else ["--secure-port=0"]),
        "--leader-elect=false",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        "--use-service-account-credentials=true",
        *([] if limit is None else [f"--kube-api-qps={limit}", f"--kube-api-burst={2 * limit}"]),
    ]


def scheduler(plane: ControlPlane) -> list[str]:
    """kube-scheduler with its defaults."""
    return [
        str(plane.programs / "kube-scheduler"),
        f"--kubeconfig={plane.folder / 'config' / 'kube-scheduler'}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
    ]
