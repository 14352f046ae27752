"""The CascadeService as the operator reads it: one frozen record, parsed once at the door."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cascade_operator.errors import Stalled
from cascade_operator.reasons import Reason
from cascade_policy import names
from cascade_policy.engine_model import EngineModel, InvalidEngineModel
from cascade_policy.profiles import UnknownProfile, profile
from cascade_policy.stage_map import WARM, Boundaries, Handoff

Json = Mapping[str, Any]


class EngineType(StrEnum):
    """Which engine an instance runs."""

    VLLM = "vllm"
    SIMULATED = "simulated"


class Mode(StrEnum):
    """Whether plans are made and applied."""

    ACTIVE = "Active"
    ADVISORY = "Advisory"
    """Made, and applied when the user approves."""
    PAUSED = "Paused"
    """Not made; the one in force stays."""


ANNOTATION_APPROVE: Final = f"{names.DOMAIN}/approve"
"""On a CascadeService in Advisory mode: the id of the proposed plan that is to be applied."""
DEFAULT_PROFILE: Final = {EngineType.VLLM: "h100-8b", EngineType.SIMULATED: "simulated"}


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """The engine container."""

    type: EngineType
    image: str | None
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    template: Json


@dataclass(frozen=True, slots=True)
class PlanningSpec:
    """When and how to plan. Times in seconds, lengths in tokens, gain in percent."""

    mode: Mode
    interval_seconds: int
    window_seconds: int
    max_stages: int
    min_gain_percent: float
    cooldown_seconds: int
    boundaries: tuple[int, ...]
    engine_model: EngineModel


@dataclass(frozen=True, slots=True)
class RouterSpec:
    """What the routers are told beside the plan; all of it restarts them when it changes."""

    api_keys_secret: str | None
    """Secret with the API keys of clients; None where nobody needs one."""
    access_log: bool
    traces_endpoint: str | None
    """Base URL of an OpenTelemetry collector."""
    traces_percent: float
    max_waiting: int
    max_wait_seconds: int
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """One CascadeService with every default filled in."""

    namespace: str
    name: str
    uid: str
    generation: int
    model_name: str
    model_source: str
    max_length: int
    instances: int
    gpus_per_instance: int
    engine: EngineSpec
    planning: PlanningSpec
    ttft_target_ms: int
    tpot_target_ms: int
    boundaries: Boundaries
    bias: float
    handoff: Handoff
    router: RouterSpec
    prometheus_url: str | None
    approved_plan: str | None
    """Id of a plan that the user approves, from an annotation; None for none."""

    @property
    def as_served(self) -> tuple[object, ...]:
        """What the requests of clients notice of the spec. Times that they took under another one
        are those of another service."""
        planning = self.planning
        return (
            self.max_length,
            self.instances,
            self.gpus_per_instance,
            self.engine,
            planning.engine_model,
            planning.boundaries if planning.mode is Mode.ACTIVE else (),
            self.ttft_target_ms,
            self.tpot_target_ms,
            self.boundaries,
            self.bias,
            self.handoff,
            self.router,
        )


def parse_spec(resource: Json) -> ServiceSpec:
    """Read a CascadeService.

    The schema's defaults are repeated here for the sections that it cannot default. Raises Stalled
    when the spec contradicts itself in a way that the schema does not see.
    """
    metadata, spec = resource["metadata"], resource["spec"]
    engine = _engine(spec.get("engine", {}))
    gpus_per_instance = int(spec.get("gpusPerInstance", 1))
    model = spec["model"]
    objective, routing = spec.get("objective", {}), spec.get("routing", {})
    parsed = ServiceSpec(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 1)),
        model_name=model["name"],
        model_source=model.get("source", model["name"]),
        max_length=int(model["maxLength"]),
        instances=int(spec.get("instances") or int(spec["gpuCount"]) // gpus_per_instance),
        gpus_per_instance=gpus_per_instance,
        engine=engine,
        planning=_planning(spec.get("planning", {}), engine.type),
        ttft_target_ms=int(objective.get("timeToFirstTokenMs", 2000)),
        tpot_target_ms=int(objective.get("timePerOutputTokenMs", 100)),
        boundaries=Boundaries(routing.get("boundaries", "soft")),
        bias=float(routing.get("bias", 0.05)),
        handoff=_handoff(spec.get("handoff", {})),
        router=_router(spec.get("router", {})),
        prometheus_url=spec.get("prometheus", {}).get("url"),
        approved_plan=(metadata.get("annotations") or {}).get(ANNOTATION_APPROVE, "").strip()
        or None,
    )
    _check(parsed)
    return parsed


def _engine(engine: Json) -> EngineSpec:
    return EngineSpec(
        type=EngineType(engine.get("type", "vllm")),
        image=engine.get("image"),
        args=tuple(engine.get("args", ())),
        env=tuple((item["name"], item["value"]) for item in engine.get("env", ())),
        template=engine.get("template", {}),
    )


def _handoff(handoff: Json) -> Handoff:
    return Handoff(
        enabled=bool(handoff.get("enabled", True)),
        transport=str(handoff.get("transport", WARM)),
        slice_tokens=int(handoff.get("sliceTokens", 64)),
    )


def _router(router: Json) -> RouterSpec:
    limits, tracing = router.get("limits", {}), router.get("tracing", {})
    return RouterSpec(
        api_keys_secret=router.get("auth", {}).get("secretName"),
        access_log=bool(router.get("accessLog", False)),
        traces_endpoint=tracing.get("endpoint"),
        traces_percent=float(tracing.get("samplePercent", 1)),
        max_waiting=int(limits.get("maxWaiting", 1024)),
        max_wait_seconds=int(limits.get("maxWaitSeconds", 120)),
        max_body_bytes=int(limits.get("maxBodyBytes", 16777216)),
    )


def _planning(planning: Json, engine: EngineType) -> PlanningSpec:
    return PlanningSpec(
        mode=Mode(planning.get("mode", "Active")),
        interval_seconds=int(planning.get("intervalSeconds", 60)),
        window_seconds=int(planning.get("windowSeconds", 600)),
        max_stages=int(planning.get("maxStages", 8)),
        min_gain_percent=float(planning.get("minGainPercent", 5)),
        cooldown_seconds=int(planning.get("cooldownSeconds", 300)),
        boundaries=tuple(int(bound) for bound in planning.get("boundaries", ())),
        engine_model=_engine_model(planning.get("costModel", {}), engine),
    )


def _engine_model(cost_model: Json, engine: EngineType) -> EngineModel:
    try:
        if "coefficients" in cost_model:
            return EngineModel.from_json(cost_model["coefficients"])
        return profile(cost_model.get("profile", DEFAULT_PROFILE[engine]))
    except (InvalidEngineModel, UnknownProfile) as error:
        raise Stalled(Reason.INVALID_SPEC, f"spec.planning.costModel: {error}") from error


def _check(spec: ServiceSpec) -> None:
    """Rules that hold across sections; the schema states most of them as well."""
    if spec.instances < 1:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"spec.gpuCount is below spec.gpusPerInstance ({spec.gpus_per_instance}): no instance "
            "fits; raise gpuCount",
        )
    if len(spec.planning.boundaries) >= spec.instances:
        raise Stalled(
            Reason.INVALID_SPEC,
            f"{len(spec.planning.boundaries)} spec.planning.boundaries make "
            f"{len(spec.planning.boundaries) + 1} stages, but there are {spec.instances} "
            "instances; remove boundaries or add instances",
        )
