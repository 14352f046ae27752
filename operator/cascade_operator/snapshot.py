"""What the cluster showed at the start of a pass, as frozen records without any behaviour of I/O.

A pod counts as *live* until it is deleted or ended, as *gated* while our scheduling gate holds it
(a placeholder), and as *warm* when it is live and not gated: it has, or may get, GPUs.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from cascade_operator.managers import Trace, traces
from cascade_operator.pod_object import Condition, Metadata, PodObject, Status
from cascade_policy import names

Json = Mapping[str, Any]

STAGE_LEAVING: Final = "leaving"
"""Stage label of an instance that no controller may own any more, because it is to be removed."""
UNSCHEDULABLE: Final = "Unschedulable"
"""Kind of the trouble of a pod that the scheduler finds no node for."""
RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
"""Annotation of a pod template: another value is a rollout of the same template."""
_REVISION: Final = "deployment.kubernetes.io/revision"
_ANNOTATIONS: Final = ("spec", "template", "metadata", "annotations")
_DISRUPTED: Final = "DisruptionTarget"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not come up, in the cluster's own words."""

    kind: str
    """The reason of a container state or of a pod condition."""
    message: str


@dataclass(frozen=True, slots=True)
class Pod:
    """An instance or a placeholder for one."""

    name: str
    uid: str
    resource_version: str
    stage_label: str | None
    pod_template_hash: str | None
    template_hash: str | None
    """Our hash of the template it was made from, equal for all stages."""
    controller_uid: str | None
    owners: frozenset[str]
    gated: bool
    deleting: bool
    ended: bool
    bound: bool
    ready: bool
    placed: bool
    length_range: str | None
    router_running: bool
    trouble: Trouble | None
    sandboxed: bool = True
    """Whether its node has mounted its volumes and given it a network, or does not tell."""
    since: float = 0.0
    """When it was put on its node, else created (unix seconds): a placeholder may be old."""
    end_by: float = math.inf
    """When its kubelet has to have ended it (unix seconds), once it is being deleted."""
    service: str | None = None
    """Label with the name of the service: Services and ReplicaSets find it by this one too."""
    disruption: Trouble | None = None
    """Why the cluster ends it: an eviction, a preemption, the loss of its node."""

    @property
    def live(self) -> bool:
        """Whether controllers count it."""
        return not self.deleting and not self.ended

    @property
    def warm(self) -> bool:
        """Whether it has, or may get, GPUs and is to be kept."""
        return self.live and not self.gated

    @property
    def stage(self) -> int | None:
        """Index of the stage that its label names, None for none."""
        return stage_index(self.stage_label)


@dataclass(frozen=True, slots=True)
class ReplicaSet:
    """One revision of a stage Deployment."""

    name: str
    uid: str
    deployment_uid: str | None
    pod_template_hash: str
    template_hash: str | None
    revision: int
    generation: int
    observed_generation: int
    replicas: int
    observed_replicas: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage Deployment with its ReplicaSets, the newest revision first."""

    index: int
    name: str
    uid: str
    resource_version: str
    generation: int
    observed_generation: int
    replicas: int
    revision: int
    template_hash: str | None
    deleting: bool
    replica_sets: tuple[ReplicaSet, ...]
    scaled_by: tuple[Trace, ...] = ()
    """Who else set the present number of replicas."""
    restarted_at: str = ""
    """What `kubectl rollout restart` left in the template."""
    restarted_by: tuple[Trace, ...] = ()

    @property
    def current(self) -> ReplicaSet | None:
        """The ReplicaSet of the Deployment's own revision."""
        return next((rs for rs in self.replica_sets if rs.revision == self.revision), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Stages by index and pods by name, as one LIST of each kind gave them."""

    stages: tuple[Stage, ...]
    pods: tuple[Pod, ...]

    @property
    def running_routers(self) -> frozenset[str]:
        """Names of the live pods whose router runs."""
        return frozenset(pod.name for pod in self.pods if pod.live and pod.router_running)

    def stage(self, index: int | None) -> Stage | None:
        """The stage of that index, if its Deployment exists."""
        return next((stage for stage in self.stages if stage.index == index), None)


def take_snapshot(
    deployments: Iterable[Json], replica_sets: Iterable[Json], pods: Iterable[PodObject]
) -> Snapshot:
    """Build the snapshot from the lists; Deployments without a stage label are left out."""
    sets = [_replica_set(item) for item in replica_sets]
    stages = [
        _stage(item, index, sets)
        for item in deployments
        if (index := stage_index(_labels(item).get(names.LABEL_STAGE))) is not None
    ]
    return Snapshot(
        stages=tuple(sorted(stages, key=lambda stage: stage.index)),
        pods=tuple(sorted((_pod(item) for item in pods), key=lambda pod: pod.name)),
    )


@lru_cache(maxsize=1024)
def stage_index(label: str | None) -> int | None:
    """The stage index that a label value names, None if it names none."""
    return int(label) if label is not None and label.isdecimal() and len(label) <= 3 else None


def _labels(item: Json) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}


def _annotations(item: Json) -> Mapping[str, str]:
    return item.get("metadata", {}).get("annotations") or {}


def _controller(item: Json) -> str | None:
    for owner in item["metadata"].get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return None


def _stage(item: Json, index: int, sets: Iterable[ReplicaSet]) -> Stage:
    metadata, status = item["metadata"], item.get("status", {})
    own = [rs for rs in sets if rs.deployment_uid == metadata["uid"]]
    return Stage(
        index=index,
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        generation=int(metadata.get("generation", 0)),
        observed_generation=int(status.get("observedGeneration", 0)),
        replicas=int(item["spec"].get("replicas", 1)),
        revision=int(_annotations(item).get(_REVISION, "0")),
        template_hash=_annotations(item["spec"]["template"]).get(names.ANNOTATION_TEMPLATE_HASH),
        deleting="deletionTimestamp" in metadata,
        replica_sets=tuple(sorted(own, key=lambda rs: -rs.revision)),
        scaled_by=traces(item, "spec", "replicas"),
        restarted_at=_annotations(item["spec"]["template"]).get(RESTARTED_AT, ""),
        restarted_by=traces(item, *_ANNOTATIONS, RESTARTED_AT),
    )


def _replica_set(item: Json) -> ReplicaSet:
    metadata, status = item["metadata"], item.get("status", {})
    template = item["spec"].get("template", {})
    failures = [
        str(condition.get("message", ""))
        for condition in status.get("conditions") or ()
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True"
    ]
    return ReplicaSet(
        name=metadata["name"],
        uid=metadata["uid"],
        deployment_uid=_controller(item),
        pod_template_hash=_labels(item).get(names.LABEL_POD_TEMPLATE_HASH, ""),
        template_hash=_annotations(template).get(names.ANNOTATION_TEMPLATE_HASH),
        revision=int(_annotations(item).get(_REVISION, "0")),
        generation=int(metadata.get("generation", 0)),
        observed_generation=int(status.get("observedGeneration", 0)),
        replicas=int(item["spec"].get("replicas", 1)),
        observed_replicas=int(status.get("replicas", 0)),
        failure=failures[0] if failures else None,
    )


def _pod(item: PodObject) -> Pod:
    metadata, spec, status = item.metadata, item.spec, item.status
    labels = metadata.labels
    conditions = {entry.type: entry for entry in status.conditions}
    return Pod(
        name=metadata.name,
        uid=metadata.uid,
        resource_version=metadata.version,
        stage_label=labels.get(names.LABEL_STAGE),
        pod_template_hash=labels.get(names.LABEL_POD_TEMPLATE_HASH),
        template_hash=metadata.annotations.get(names.ANNOTATION_TEMPLATE_HASH),
        controller_uid=next((owner.uid for owner in metadata.owners if owner.controller), None),
        owners=frozenset(owner.uid for owner in metadata.owners),
        gated=any(gate.name == names.GATE_PLACEMENT for gate in spec.gates),
        deleting=metadata.deleted is not None,
        ended=status.phase in ("Succeeded", "Failed"),
        bound=bool(spec.node),
        ready=_says(conditions, "Ready", "True"),
        placed=labels.get(names.LABEL_PLACED) == "true",
        length_range=labels.get(names.LABEL_LENGTH_RANGE),
        router_running=any(
            container.name == names.CONTAINER_ROUTER and container.state.running is not None
            for container in status.init_containers
        ),
        trouble=_trouble(status, conditions),
        sandboxed=not _says(conditions, "PodReadyToStartContainers", "False"),
        since=_since(metadata, conditions),
        end_by=_unix(metadata.deleted),
        service=labels.get(names.LABEL_SERVICE),
        disruption=_disruption(status, conditions),
    )


def _says(conditions: Mapping[str, Condition], type_: str, status: str) -> bool:
    return type_ in conditions and conditions[type_].status == status


def _since(metadata: Metadata, conditions: Mapping[str, Condition]) -> float:
    scheduled = _says(conditions, "PodScheduled", "True")
    stamp = conditions["PodScheduled"].since if scheduled else None
    return _unix(stamp or metadata.created)


def _unix(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else math.inf


def _disruption(status: Status, conditions: Mapping[str, Condition]) -> Trouble | None:
    if _says(conditions, _DISRUPTED, "True"):
        return Trouble(conditions[_DISRUPTED].reason, conditions[_DISRUPTED].message)
    # A kubelet that evicts, or refuses what was bound to it, says so here.
    return Trouble(status.reason, status.message) if status.reason else None


_START_UP: Final = frozenset({"ContainerCreating", "PodInitializing"})


def _trouble(status: Status, conditions: Mapping[str, Condition]) -> Trouble | None:
    for container in (*status.init_containers, *status.containers):
        waiting = container.state.waiting
        if waiting is not None and waiting.reason not in _START_UP:
            text = waiting.message or "no further message"
            return Trouble(waiting.reason, f"container {container.name}: {text}")
    scheduled = conditions.get("PodScheduled")
    if scheduled is not None and scheduled.status == "False" and scheduled.reason == UNSCHEDULABLE:
        return Trouble(UNSCHEDULABLE, scheduled.message)
    return None
