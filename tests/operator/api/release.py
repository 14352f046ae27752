"""A settled service as a release of the operator left it: kept in a file, and made again from it.

What is kept is what that operator had written, with its field manager; replica sets and pods are
made anew by the controllers, since their names and uids are the cluster's.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade_policy import names
from tests.operator.api.conftest import Kubectl, until

CHILDREN = (
    "serviceaccounts,roles,rolebindings,secrets,configmaps,services,poddisruptionbudgets,"
    "deployments"
)
_UID = "UID-OF-THE-SERVICE"
_NAMESPACE = "NAMESPACE-OF-THE-SERVICE"
_NO_SECRET = base64.b64encode(b"0" * 64).decode()
_METADATA = ("name", "namespace", "labels", "annotations", "ownerReferences")
_OF_CONTROLLERS = "deployment.kubernetes.io/"


@dataclass(frozen=True)
class Release:
    """What is kept."""

    service: dict[str, Any]
    children: list[dict[str, Any]]
    marks: dict[str, dict[str, Any]]
    """By stage: metadata that the operator has given its pods."""

    def to_json(self) -> str:
        return json.dumps(vars(self), indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path, kubectl: Kubectl, uid: str = _UID) -> "Release":
        """The release, for a namespace and a CascadeService with this uid."""
        text = path.read_text().replace(_NAMESPACE, kubectl.namespace)
        return cls(**json.loads(text.replace(_UID, uid)))


def keep(kubectl: Kubectl, name: str) -> str:
    """The settled service of this name, as the text of a release."""
    service = kubectl.json("get", "csvc", name)
    children = [
        _written(item) for item in kubectl.items(CHILDREN, "-l", f"{names.LABEL_SERVICE}={name}")
    ]
    marks = {
        pod["metadata"]["labels"][names.LABEL_STAGE]: _mark(pod) for pod in kubectl.items("pods")
    }
    kept = Release({**_written(service), "status": service["status"]}, children, marks)
    text = kept.to_json().replace(service["metadata"]["uid"], _UID)
    return text.replace(kubectl.namespace, _NAMESPACE)


async def restore(kubectl: Kubectl, path: Path) -> None:
    """Make the service of a release again, with running pods."""
    service = Release.read(path, kubectl).service
    _apply(kubectl, {key: service[key] for key in service if key != "status"}, "kubectl")
    uid = kubectl.json("get", "csvc", service["metadata"]["name"])["metadata"]["uid"]
    release = Release.read(path, kubectl, uid)
    _apply(kubectl, release.service, f"{names.FIELD_MANAGER}-status", "--subresource=status")
    for child in release.children:
        _apply(kubectl, child, names.FIELD_MANAGER)
    wanted = sum(
        child["spec"]["replicas"] for child in release.children if child["kind"] == "Deployment"
    )
    await until("the pods are made", lambda: len(kubectl.items("pods")) == wanted)
    for pod in kubectl.items("pods"):
        _lift(kubectl, pod, release.marks[pod["metadata"]["labels"][names.LABEL_STAGE]])


def _written(item: Mapping[str, Any]) -> dict[str, Any]:
    """An object without what the cluster added."""
    left_out = ("status", "metadata")
    body = {key: value for key, value in item.items() if key not in left_out}
    if isinstance(body.get("spec"), dict):
        body["spec"] = {
            key: value for key, value in body["spec"].items() if not _is_given(key, value)
        }
    if item["kind"] == "Secret":
        body["data"] = dict.fromkeys(body["data"], _NO_SECRET)
    metadata = {key: item["metadata"][key] for key in _METADATA if key in item["metadata"]}
    annotations = metadata.get("annotations", {})
    metadata["annotations"] = {
        key: value
        for key, value in annotations.items()
        if not key.startswith((_OF_CONTROLLERS, "kubectl.kubernetes.io/"))
    }
    return {**body, "metadata": metadata}


def _is_given(key: str, value: Any) -> bool:
    """Whether the cluster chose it; that there is to be no address is the operator's choice."""
    return key in ("clusterIP", "clusterIPs") and value not in ("None", ["None"])


def _mark(pod: Mapping[str, Any]) -> dict[str, Any]:
    metadata = pod["metadata"]
    labels = {k: v for k, v in metadata["labels"].items() if k != names.LABEL_POD_TEMPLATE_HASH}
    owners = [owner for owner in metadata["ownerReferences"] if not owner.get("controller")]
    return {
        "labels": labels,
        "annotations": metadata.get("annotations", {}),
        "ownerReferences": owners,
    }


def _lift(kubectl: Kubectl, pod: Mapping[str, Any], mark: Mapping[str, Any]) -> None:
    gates = [
        {"$patch": "delete", "name": gate["name"]}
        for gate in pod["spec"].get("schedulingGates", ())
    ]
    patch = json.dumps({"metadata": mark, "spec": {"schedulingGates": gates}})
    kubectl(
        "patch", "pod", pod["metadata"]["name"], "--type=strategic", "-p", patch,
        f"--field-manager={names.FIELD_MANAGER}",
    )  # fmt: skip


def _apply(kubectl: Kubectl, manifest: Mapping[str, Any], manager: str, *more: str) -> None:
    kubectl(
        "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", *more,
        "-f", "-", stdin=json.dumps(manifest),
    )  # fmt: skip
