"""Operators with the rights that the chart gives them, and no others."""

import json
from pathlib import Path
from typing import Any

from e2e.cluster import ApiServer
from tests.charts.chart import Chart
from tests.operator.api.conftest import Kubectl

_RIGHTS = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}


def install_rights(server: ApiServer, kubectl: Kubectl, *namespaces: str) -> list[dict[str, Any]]:
    """What the chart grants to an operator in the namespace of `kubectl`, for these namespaces or
    for all, without the rest of the chart."""
    chart = Chart(server.helm, namespace=kubectl.namespace)
    values = {"watchNamespaces": list(namespaces)}
    rights = [
        item
        for item in chart.manifests(values)
        if item["kind"] in _RIGHTS and "operator" in item["metadata"]["name"]
    ]
    document = {"apiVersion": "v1", "kind": "List", "items": rights}
    Kubectl(kubectl.command, "")("apply", "-f", "-", stdin=json.dumps(document))
    return rights


def kubeconfig(kubectl: Kubectl, folder: Path) -> str:
    """Path of a kubeconfig with a token of the operator's account in the namespace of `kubectl`."""
    token = kubectl("create", "token", "cascade-operator", "--duration=1h").strip()
    document = json.loads(kubectl("config", "view", "--raw", "-o", "json"))
    document["users"] = [
        {"name": user["name"], "user": {"token": token}} for user in document["users"]
    ]
    path = folder / f"kubeconfig-{kubectl.namespace}"
    path.write_text(json.dumps(document))
    return str(path)
