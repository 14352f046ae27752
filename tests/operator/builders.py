"""Short ways to the long objects that the operator reads."""

from typing import Any

from cascade_operator.pod_template import Images
from cascade_operator.snapshot import Pod, ReplicaSet, Snapshot, Stage
from cascade_operator.spec import ServiceSpec, parse_spec

IMAGES = Images(
    router="example.org/router:1",
    simulated_engine="example.org/engine-simulator:1",
    vllm="example.org/vllm:1",
    pull_policy="IfNotPresent",
)
NOW = 1_770_000_000.0


def resource(name: str = "demo", **spec: Any) -> dict[str, Any]:
    """A CascadeService as the API server returns it, defaults of the schema left out."""
    return {
        "apiVersion": "cascadeservice.dev/v1alpha1",
        "kind": "CascadeService",
        "metadata": {"name": name, "namespace": "team", "uid": "uid-1", "generation": 3},
        "spec": {
            "model": {"name": "demo-model", "maxLength": 16384},
            "gpuCount": 8,
            "engine": {"type": "simulated"},
            **spec,
        },
    }


def service(**spec: Any) -> ServiceSpec:
    """The same, parsed."""
    return parse_spec(resource(**spec))


def approving(plan: str, **spec: Any) -> ServiceSpec:
    """The same, with the annotation that approves a plan."""
    annotated = resource(**spec)
    annotated["metadata"]["annotations"] = {"cascadeservice.dev/approve": plan}
    return parse_spec(annotated)


def stage(index: int, replicas: int, **over: Any) -> Stage:
    """A stage Deployment that its controllers have caught up with."""
    template = over.pop("template_hash", "t")
    sets = over.pop(
        "replica_sets", (replica_set(index, over.pop("set_replicas", replicas), template),)
    )
    fields: dict[str, Any] = {
        "index": index,
        "name": f"demo-stage-{index}",
        "uid": f"deployment-{index}",
        "resource_version": "1",
        "generation": 1,
        "observed_generation": 1,
        "replicas": replicas,
        "revision": 1,
        "template_hash": template,
        "deleting": False,
        "replica_sets": sets,
    }
    return Stage(**{**fields, **over})


def replica_set(index: int, replicas: int, template: str = "t", **over: Any) -> ReplicaSet:
    fields: dict[str, Any] = {
        "name": f"demo-stage-{index}-h",
        "uid": f"set-{index}",
        "deployment_uid": f"deployment-{index}",
        "pod_template_hash": f"h{index}",
        "template_hash": template,
        "revision": 1,
        "generation": 1,
        "observed_generation": 1,
        "replicas": replicas,
        "observed_replicas": replicas,
        "failure": None,
    }
    return ReplicaSet(**{**fields, **over})


def pod(name: str, index: int | None = 0, **over: Any) -> Pod:
    """A ready instance of a stage, at home there."""
    fields: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "resource_version": "1",
        "stage_label": None if index is None else str(index),
        "pod_template_hash": f"h{index}",
        "template_hash": "t",
        "controller_uid": None if index is None else f"set-{index}",
        "owners": frozenset({"uid-1"}),
        "gated": False,
        "deleting": False,
        "ended": False,
        "bound": True,
        "ready": True,
        "placed": True,
        "length_range": None,
        "router_running": True,
        "trouble": None,
        "service": "demo",
    }
    return Pod(**{**fields, **over})


def placeholder(name: str, index: int = 0, **over: Any) -> Pod:
    """A gated pod of a stage."""
    gated: dict[str, Any] = {
        "gated": True,
        "bound": False,
        "ready": False,
        "placed": False,
        "owners": frozenset(),
        "router_running": False,
    }
    return pod(name, index, **{**gated, **over})


def snapshot(*parts: Stage | Pod) -> Snapshot:
    return Snapshot(
        stages=tuple(part for part in parts if isinstance(part, Stage)),
        pods=tuple(part for part in parts if isinstance(part, Pod)),
    )


def instances(number: int, index: int = 0) -> list[Pod]:
    return [pod(f"p{index}{position}", index) for position in range(number)]
