"""The children of a CascadeService as manifests: pure, and pinned by golden files.

A child carries a hash of its own manifest in an annotation, so that a pass can see without a
write whether the cluster has what it would send.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cascade_operator import kinds
from cascade_operator.kinds import Kind
from cascade_operator.marks import owner_reference
from cascade_operator.plans import PlanRecord
from cascade_operator.pod_template import (
    Images,
    Manifest,
    base_labels,
    digest,
    pod_template,
    selector_labels,
)
from cascade_operator.spec import ServiceSpec
from cascade_policy import names
from cascade_policy.stage_map import Stage, StageMap

ANNOTATION_APPLIED: Final = f"{names.DOMAIN}/applied"
_PROGRESS_DEADLINE: Final = 2_000_000_000
"""Placeholders wait at their gate for as long as it takes: that is no failure of a rollout."""
_WHOLE: Final = "selector"
"""A key whose value must be exactly ours: one more label in it, and it finds no pod."""


@dataclass(frozen=True, slots=True)
class Child:
    """A manifest and the kind that it is of."""

    kind: Kind
    manifest: Manifest

    @property
    def name(self) -> str:
        """metadata.name"""
        return str(self.manifest["metadata"]["name"])


def static_children(spec: ServiceSpec) -> tuple[Child, ...]:
    """The children that do not depend on the plan, except the Secret."""
    return (
        _service_account(spec),
        _role(spec),
        _role_binding(spec),
        front_service(spec),
        _disruption_budget(spec),
    )


def front_service(spec: ServiceSpec) -> Child:
    """The Service that clients talk to."""
    body = {
        "spec": {
            "selector": selector_labels(spec),
            "ports": [_port(80)],
        }
    }
    return _child(kinds.SERVICE, spec.name, spec, body, component="front")


def is_front(spec: ServiceSpec, child: Child) -> bool:
    """Whether it is the Service that clients talk to."""
    return child.kind is kinds.SERVICE and child.name == spec.name


def selects_the_same(child: Child, observed: Mapping[str, Any] | None) -> bool:
    """Whether the cluster has the Service and it finds the pods that it is to find."""
    wanted = child.manifest["spec"]["selector"]
    return observed is not None and observed.get("spec", {}).get("selector") == wanted


def stage_service(spec: ServiceSpec, index: int) -> Child:
    """The headless Service of a stage: its EndpointSlices are the routers' membership view."""
    selector = {**selector_labels(spec), names.LABEL_STAGE: str(index)}
    body = {
        "metadata": {"labels": {names.LABEL_STAGE: str(index)}},
        "spec": {
            "clusterIP": "None",
            "selector": selector,
            "ports": [_port(names.PORT_ROUTER)],
        },
    }
    return _child(kinds.SERVICE, names.stage_name(spec.name, index), spec, body, component="stage")


def stage_deployment(spec: ServiceSpec, images: Images, index: int) -> Child:
    """The Deployment of a stage without its replicas, which belong to the move protocol."""
    template = pod_template(spec, images, index)
    selector = {**selector_labels(spec), names.LABEL_STAGE: str(index)}
    hash_ = template["metadata"]["annotations"][names.ANNOTATION_TEMPLATE_HASH]
    body = {
        "metadata": {
            "labels": {names.LABEL_STAGE: str(index)},
            "annotations": {names.ANNOTATION_TEMPLATE_HASH: hash_},
        },
        "spec": {
            "selector": {"matchLabels": selector},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0},
            },
            "progressDeadlineSeconds": _PROGRESS_DEADLINE,
            "revisionHistoryLimit": 2,
            "template": template,
        },
    }
    name = names.stage_name(spec.name, index)
    return _child(kinds.DEPLOYMENT, name, spec, body, component="stage")


def with_replicas(child: Child, replicas: int, resource_version: str | None = None) -> Child:
    """A stage Deployment with its replicas, valid only for the version that was read.

    Every apply has to name the replicas: an apply that leaves them out sets them to 1.
    """
    manifest = {**child.manifest, "spec": {**child.manifest["spec"], "replicas": replicas}}
    scaled = Child(child.kind, manifest)
    return scaled if resource_version is None else at_version(scaled, resource_version)


def at_version(child: Child, resource_version: str) -> Child:
    """The child, valid only for the version that was read."""
    metadata = {**child.manifest["metadata"], "resourceVersion": resource_version}
    return Child(child.kind, {**child.manifest, "metadata": metadata})


def stage_map_config(spec: ServiceSpec, plan: PlanRecord, stage_map: StageMap) -> Child:
    """The ConfigMap: the map in force as data, the plan it is on the way to as annotation."""
    body = {
        "metadata": {"annotations": {names.ANNOTATION_PLAN: plan.dumps()}},
        "data": {names.STAGE_MAP_KEY: stage_map.dumps()},
    }
    return _child(
        kinds.CONFIG_MAP, names.stage_map_name(spec.name), spec, body, component="stagemap"
    )


def stage_map_of(spec: ServiceSpec, plan: PlanRecord, time: str) -> StageMap:
    """The plan as the routers read it."""
    return StageMap(
        plan_id=plan.id,
        time=time,
        model=spec.model_name,
        max_length=spec.max_length,
        engine=spec.planning.engine_model,
        stages=tuple(
            Stage(index, stage.min_length, stage.max_length, names.stage_name(spec.name, index))
            for index, stage in enumerate(plan.stages)
        ),
        expected_remaining=plan.expected_remaining,
        boundaries=spec.boundaries,
        bias=spec.bias,
        handoff=spec.handoff,
        ttft_target_ms=float(spec.ttft_target_ms),
        tpot_target_ms=float(spec.tpot_target_ms),
    )


def hop_secret(spec: ServiceSpec, key: str) -> Child:
    """The key by which the sidecars trust each other. Created once, never compared or shown."""
    body = {"type": "Opaque", "stringData": {names.HOP_SECRET_KEY: key}}
    return _child(kinds.SECRET, names.hop_secret_name(spec.name), spec, body, component="hop")


def _service_account(spec: ServiceSpec) -> Child:
    body = {"automountServiceAccountToken": False}
    return _child(kinds.SERVICE_ACCOUNT, names.sidecar_account_name(spec.name), spec, body)


def _role(spec: ServiceSpec) -> Child:
    """EndpointSlices have generated names, so they cannot be narrowed below the namespace."""
    read = ["list", "watch"]
    body = {
        "rules": [
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": [names.stage_map_name(spec.name)],
                "verbs": read,
            },
        ]
    }
    return _child(kinds.ROLE, names.sidecar_account_name(spec.name), spec, body)


def _role_binding(spec: ServiceSpec) -> Child:
    name = names.sidecar_account_name(spec.name)
    body = {
        "roleRef": {"apiGroup": kinds.ROLE.group, "kind": kinds.ROLE.kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": spec.namespace}],
    }
    return _child(kinds.ROLE_BINDING, name, spec, body)


def _disruption_budget(spec: ServiceSpec) -> Child:
    """An absolute number: percentages and maxUnavailable count placeholders and block drains."""
    body = {
        "spec": {
            "minAvailable": spec.instances - 1,
            "selector": {"matchLabels": selector_labels(spec)},
        }
    }
    return _child(kinds.DISRUPTION_BUDGET, spec.name, spec, body)


def _port(port: int) -> Manifest:
    return {
        "name": names.PORT_NAME,
        "port": port,
        "targetPort": names.PORT_NAME,
        "protocol": "TCP",
    }


def _child(
    kind: Kind, name: str, spec: ServiceSpec, body: Manifest, *, component: str = "instance"
) -> Child:
    metadata = body.get("metadata", {})
    manifest: Manifest = {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        **body,
        "metadata": {
            "name": name,
            "namespace": spec.namespace,
            "labels": {
                **base_labels(spec),
                names.LABEL_APP_NAME: "cascadeservice",
                names.LABEL_APP_COMPONENT: component,
                **metadata.get("labels", {}),
            },
            "annotations": dict(metadata.get("annotations", {})),
            "ownerReferences": [{**owner_reference(spec, controller=True)}],
        },
    }
    hash_ = "once" if kind is kinds.SECRET else digest(manifest)
    manifest["metadata"]["annotations"][ANNOTATION_APPLIED] = hash_
    return Child(kind, manifest)


def is_applied(child: Child, observed: Mapping[str, Any]) -> bool:
    """Whether the cluster's object was made from the same manifest, whatever became of it."""
    return _applied_hash(child.manifest) == _applied_hash(observed)


def _applied_hash(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(ANNOTATION_APPLIED, ""))


def differs(child: Child, observed: Mapping[str, Any]) -> bool:
    """Whether the cluster's object lacks anything that the manifest says, or selects less."""
    return not _contains(observed, child.manifest)


def _contains(observed: object, wanted: object) -> bool:
    """Whether `observed` has all of `wanted`; what the server adds does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(observed, Mapping) and all(
            key in observed
            and (observed[key] == value if key == _WHOLE else _contains(observed[key], value))
            for key, value in wanted.items()
            if key != "stringData"
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return (
            isinstance(observed, Sequence)
            and len(observed) == len(wanted)
            and all(_contains(a, b) for a, b in zip(observed, wanted, strict=True))
        )
    return observed == wanted
