"""The kinds of objects that the operator reads and writes, and where the API server has them."""

from dataclasses import dataclass
from typing import Final

from cascade_policy import names


@dataclass(frozen=True, slots=True)
class Kind:
    """One namespaced resource of the API."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """`apiVersion` of its manifests."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, of one object, or of its subresource; namespace "" is the
        whole cluster."""
        root = f"/apis/{self.group}" if self.group else "/api"
        scope = f"namespaces/{namespace}" if namespace else None
        parts = [root, self.version, scope, self.plural, name, subresource]
        return "/".join(part for part in parts if part)


CASCADE_SERVICE: Final = Kind(names.GROUP, names.VERSION, names.PLURAL, names.KIND)
DEPLOYMENT: Final = Kind("apps", "v1", "deployments", "Deployment")
REPLICA_SET: Final = Kind("apps", "v1", "replicasets", "ReplicaSet")
POD: Final = Kind("", "v1", "pods", "Pod")
SERVICE: Final = Kind("", "v1", "services", "Service")
CONFIG_MAP: Final = Kind("", "v1", "configmaps", "ConfigMap")
SECRET: Final = Kind("", "v1", "secrets", "Secret")
SERVICE_ACCOUNT: Final = Kind("", "v1", "serviceaccounts", "ServiceAccount")
ROLE: Final = Kind("rbac.authorization.k8s.io", "v1", "roles", "Role")
ROLE_BINDING: Final = Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
DISRUPTION_BUDGET: Final = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")
EVENT: Final = Kind("events.k8s.io", "v1", "events", "Event")
LEASE: Final = Kind("coordination.k8s.io", "v1", "leases", "Lease")
