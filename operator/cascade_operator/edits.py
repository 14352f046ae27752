"""What others wrote into a stage Deployment, and the patch that undoes it.

An apply gives back what others changed and leaves what they added, so the spec is replaced as a
whole: with the same template the Deployment goes back to the ReplicaSet that it had. Replicas
belong to the move protocol, and the time of a restart to whoever asked for it; both stay.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from cascade_operator.managers import Trace, traces
from cascade_operator.pod_template import digest
from cascade_operator.resources import Child, differs
from cascade_operator.snapshot import RESTARTED_AT

Json = Mapping[str, Any]
Operations = list[dict[str, Any]]

_THEIRS: Final = frozenset({"spec.replicas", f"spec.template.metadata.annotations.{RESTARTED_AT}"})


def edits(child: Child, deployment: Json) -> tuple[Trace, ...] | None:
    """Who wrote into its spec; empty if nobody knows, None if it says what `child` does."""
    found = tuple(
        replace(trace, fields=fields)
        for trace in traces(deployment, "spec")
        if (fields := tuple(path for path in trace.fields if path not in _THEIRS))
    )
    wanted = Child(child.kind, {"metadata": {}, "spec": child.manifest["spec"]})
    return found if found or differs(wanted, deployment) else None


def content(deployment: Json) -> str:
    """A hash of what nobody but the operator may write."""
    return digest({**deployment["spec"], "replicas": None})


def undo_patch(child: Child, deployment: Json) -> Operations:
    """The JSON patch that brings back the spec of `child`, valid only for what was read."""
    spec = {**child.manifest["spec"], "replicas": deployment["spec"].get("replicas", 1)}
    restarted_at = _restarted_at(deployment)
    if restarted_at is not None:
        spec["template"] = _annotated(spec["template"], restarted_at)
    version = deployment["metadata"]["resourceVersion"]
    return [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "replace", "path": "/spec", "value": spec},
    ]


def _restarted_at(deployment: Json) -> str | None:
    metadata = deployment["spec"]["template"].get("metadata") or {}
    value = (metadata.get("annotations") or {}).get(RESTARTED_AT)
    return None if value is None else str(value)


def _annotated(template: Json, restarted_at: str) -> dict[str, Any]:
    metadata = template["metadata"]
    annotations = {**metadata.get("annotations", {}), RESTARTED_AT: restarted_at}
    return {**template, "metadata": {**metadata, "annotations": annotations}}
