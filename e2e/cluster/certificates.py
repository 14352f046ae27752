"""Keys, certificates and kubeconfigs of a control plane, made with openssl.

One authority signs everything: this is a throwaway cluster that nobody outside the machine sees.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.shell import run

DAYS = 365
NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
HINT = "OpenSSL 3 is needed (apt-get install openssl)."


@dataclass(frozen=True)
class Subject:
    """Who a client certificate stands for: an RBAC user and its group."""

    user: str
    group: str = ""

    @property
    def openssl(self) -> str:
        """The subject in openssl's notation."""
        return (f"/O={self.group}" if self.group else "") + f"/CN={self.user}"


ADMINISTRATOR = Subject("cascade-admin", "system:masters")
KUBELET_CLIENT = Subject("kube-apiserver-kubelet-client", "system:masters")


class Authority:
    """A certificate authority in a folder of its own.

    Files: `ca.crt`, `ca.key`, then NAME.crt and NAME.key for each certificate.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._openssl("ca", "/CN=cascade-local-cluster", ["basicConstraints=critical,CA:TRUE"])

    def service_account_key(self) -> None:
        """The key pair that signs ServiceAccount tokens: `sa.key`, `sa.pub`."""
        key, public = self.folder / "sa.key", self.folder / "sa.pub"
        parameters = ["-pkeyopt", "ec_paramgen_curve:P-256"]
        doing = "making the ServiceAccount key"
        run(
            ["openssl", "genpkey", "-algorithm", "EC", *parameters, "-out", key],
            doing=doing,
            hint=HINT,
        )
        run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], doing=doing, hint=HINT)

    def server(self, name: str, names: Sequence[str], addresses: Sequence[str]) -> None:
        """A serving certificate for these DNS names and addresses."""
        alternatives = [f"DNS:{name}" for name in names] + [f"IP:{ip}" for ip in addresses]
        self._openssl(
            name,
            f"/CN={name}",
            ["extendedKeyUsage=serverAuth", f"subjectAltName={','.join(alternatives)}"],
        )

    def client(self, name: str, subject: Subject) -> None:
        """A client certificate."""
        self._openssl(name, subject.openssl, ["extendedKeyUsage=clientAuth"])

    def kubeconfig(self, path: Path, name: str, subject: Subject, server: str) -> None:
        """A client certificate, and a kubeconfig that holds all it needs."""
        self.client(name, subject)
        cluster = {"server": server, "certificate-authority-data": self._encoded("ca.crt")}
        user = {
            "client-certificate-data": self._encoded(f"{name}.crt"),
            "client-key-data": self._encoded(f"{name}.key"),
        }
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cascade", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "cascade", "context": {"cluster": "cascade", "user": name}}],
            "current-context": "cascade",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(json.dumps(content, indent=1) + "\n")

    def _encoded(self, name: str) -> str:
        return base64.b64encode((self.folder / name).read_bytes()).decode()

    def _openssl(self, name: str, subject: str, extensions: Sequence[str]) -> None:
        """One certificate with a new key: self-signed for the authority, else signed by it."""
        key, certificate = self.folder / f"{name}.key", self.folder / f"{name}.crt"
        issuer: list[str | Path] = (
            []
            if name == "ca"
            else ["-CA", self.folder / "ca.crt", "-CAkey", self.folder / "ca.key"]
        )
        added = [word for extension in extensions for word in ("-addext", extension)]
        run(
            [
                "openssl", "req", "-x509", *NEW_KEY, "-sha256", "-days", str(DAYS),
                "-subj", subject, *issuer, *added, "-keyout", key, "-out", certificate,
            ],
            doing=f"making the certificate {name}",
            hint=HINT,
        )  # fmt: skip
        key.chmod(0o600)
