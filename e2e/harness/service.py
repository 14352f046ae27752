"""A CascadeService in a cluster, as its user sees it."""

from dataclasses import dataclass
from typing import Any

from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl

MODEL = "demo-model"
MAX_LENGTH = 16384


def manifest(name: str, **spec: Any) -> JsonObject:
    """A CascadeService of simulated GPUs; `spec` replaces whole top-level fields of the spec."""
    return {
        "apiVersion": f"{names.GROUP}/{names.VERSION}",
        "kind": names.KIND,
        "metadata": {"name": name},
        "spec": {
            "model": {"name": MODEL, "maxLength": MAX_LENGTH},
            "gpuCount": 8,
            "engine": {"type": "simulated"},
            **spec,
        },
    }


@dataclass(frozen=True)
class PodFacts:
    """What must not change while a pod moves, and what does."""

    uid: str
    name: str
    stage: str
    bound: bool
    ready: bool
    terminating: bool
    restarts: int
    ended: bool = False
    """Whether its containers have ended for good: it stays for a moment, and holds nothing."""


def pod_facts(pod: JsonObject) -> PodFacts:
    """Read a pod's JSON."""
    metadata, status = pod["metadata"], pod.get("status", {})
    containers = [
        *status.get("initContainerStatuses", []),
        *status.get("containerStatuses", []),
    ]
    return PodFacts(
        uid=metadata["uid"],
        name=metadata["name"],
        stage=metadata["labels"].get(names.LABEL_STAGE, ""),
        bound=bool(pod["spec"].get("nodeName")),
        ready=any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in status.get("conditions", [])
        ),
        terminating="deletionTimestamp" in metadata,
        restarts=sum(container.get("restartCount", 0) for container in containers),
        ended=status.get("phase") in ("Succeeded", "Failed"),
    )


@dataclass(frozen=True)
class ServiceView:
    """Status of a CascadeService at one moment."""

    body: JsonObject

    @property
    def status(self) -> JsonObject:
        found: JsonObject = self.body.get("status", {})
        return found

    @property
    def conditions(self) -> dict[str, JsonObject]:
        return {item["type"]: item for item in self.status.get("conditions", [])}

    def is_true(self, condition: str) -> bool:
        """Whether the condition is True for the present generation of the spec."""
        found = self.conditions.get(condition, {})
        return bool(
            found.get("status") == "True"
            and found.get("observedGeneration") == self.body["metadata"]["generation"]
        )

    @property
    def plan_stages(self) -> list[JsonObject]:
        """Stages of the plan in force."""
        return list(self.status.get("plan", {}).get("stages", []))

    @property
    def settled(self) -> bool:
        """Observed, served, and every stage holds what the plan gives it, ready."""
        stages = self.status.get("stages", [])
        wanted = [stage["instances"] for stage in self.plan_stages]
        return (
            self.status.get("observedGeneration") == self.body["metadata"]["generation"]
            and self.is_true("Ready")
            and bool(stages)
            and [stage["ready"] for stage in stages] == wanted
            and not any(stage.get("moving") for stage in stages)
        )


@dataclass(frozen=True)
class Service:
    """Handle on one CascadeService."""

    kubectl: Kubectl
    name: str

    @property
    def url(self) -> str:
        """The front Service, as pods of the cluster reach it."""
        return f"http://{self.name}.{self.kubectl.namespace}.svc"

    def view(self) -> ServiceView:
        return ServiceView(self.kubectl.get("cascadeservice", self.name))

    def pods(self) -> list[PodFacts]:
        """All pods of the service, placeholders included."""
        selector = f"{names.LABEL_SERVICE}={self.name}"
        return [pod_facts(pod) for pod in self.kubectl.items("pods", "-l", selector)]

    def patch(self, **spec: Any) -> None:
        self.kubectl.merge("cascadeservice", self.name, {"spec": spec})

    def wait_ready(self, *, instances: int = 8, seconds: float = 180.0) -> ServiceView:
        """Wait until Ready is True and all instances are ready in their stages."""

        def probe() -> ServiceView | None:
            view = self.view()
            ready = sum(stage["ready"] for stage in view.status.get("stages", []))
            return view if view.is_true("Ready") and ready == instances else None

        return until(
            f"{self.name} Ready with {instances} instances",
            probe,
            seconds=seconds,
            seen=lambda: self.view().status,
        )

    def wait_settled(self, *, seconds: float = 120.0) -> ServiceView:
        """Wait until every stage holds what the plan gives it."""

        def probe() -> ServiceView | None:
            view = self.view()
            return view if view.settled else None

        return until(
            f"{self.name} settled on its plan",
            probe,
            seconds=seconds,
            seen=lambda: self.view().status,
        )
