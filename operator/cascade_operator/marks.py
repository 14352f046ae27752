"""What every live instance must carry beyond its template: owner, placed label, length range.

The second, non-controller owner reference keeps a warm pod alive when its Deployment is deleted,
and takes it along when its CascadeService is.
"""

from typing import Any, Final

from cascade_operator.snapshot import Pod
from cascade_operator.spec import ServiceSpec
from cascade_policy import names
from cascade_policy.stage_map import StageMap

Patch = dict[str, Any]

_LIFT: Final = [{"$patch": "delete", "name": names.GATE_PLACEMENT}]


def length_range(stage_map: StageMap | None, stage: int | None) -> str | None:
    """Label value `min-max` of a stage under the ranges in force, None if it has none."""
    if stage_map is None or stage is None or stage >= len(stage_map.stages):
        return None
    entry = stage_map.stages[stage]
    return f"{entry.min_length}-{entry.max_length}"


def mark_patch(pod: Pod, spec: ServiceSpec, stage_map: StageMap | None) -> Patch | None:
    """The strategic-merge patch that gives a warm pod what it misses, None if it has all."""
    labels: dict[str, str] = {}
    if not pod.placed:
        labels[names.LABEL_PLACED] = "true"
    if pod.service != spec.name:
        labels[names.LABEL_SERVICE] = spec.name
    wanted = length_range(stage_map, pod.stage)
    if wanted is not None and wanted != pod.length_range:
        labels[names.LABEL_LENGTH_RANGE] = wanted
    metadata: dict[str, Any] = {}
    if labels:
        metadata["labels"] = labels
    if spec.uid not in pod.owners:
        metadata["ownerReferences"] = [owner_reference(spec, controller=False)]
    return guarded(pod, {"metadata": metadata}) if metadata else None


def lift_patch(pod: Pod, spec: ServiceSpec, stage_map: StageMap | None) -> Patch:
    """Removes our gate, by name because other gates are not ours, and marks the pod at once."""
    patch = mark_patch(pod, spec, stage_map) or guarded(pod, {"metadata": {}})
    return {**patch, "spec": {"schedulingGates": _LIFT}}


def guarded(pod: Pod, patch: Patch) -> Patch:
    """The patch, valid only for exactly this pod in exactly the state that was read."""
    metadata = {
        **patch["metadata"],
        "uid": pod.uid,
        "resourceVersion": pod.resource_version,
    }
    return {**patch, "metadata": metadata}


def owner_reference(spec: ServiceSpec, *, controller: bool) -> Patch:
    """A reference to the CascadeService."""
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "name": spec.name,
        "uid": spec.uid,
        "controller": controller,
        "blockOwnerDeletion": False,
    }
