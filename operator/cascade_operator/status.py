"""The status of a CascadeService: written once, at the end of a pass, and only when it changed."""

from collections.abc import Mapping, Sequence
from typing import Any

from cascade_operator.conditions import Condition, conditions
from cascade_operator.decisions import remember
from cascade_operator.errors import PassError
from cascade_operator.moves import in_transit
from cascade_operator.observation import Observation
from cascade_operator.plans import PlanRecord, word
from cascade_operator.snapshot import Pod
from cascade_operator.times import timestamp
from cascade_policy import names

Json = Mapping[str, Any]


def by_type(status: Json) -> dict[str, Json]:
    """The conditions of a status by their type."""
    return {condition["type"]: condition for condition in status.get("conditions", ())}


def render_status(seen: Observation, previous: Json, now: float) -> dict[str, Any]:
    """The whole status, `now` in unix seconds.

    `previous` is the status as it stands: times of conditions that did not change come from it.
    """
    spec = seen.spec
    instances = [pod for pod in seen.snapshot.pods if pod.warm]
    placed = [pod for pod in instances if pod.placed]
    before = by_type(previous)
    ready_before = sum(int(row.get("ready", 0)) for row in previous.get("stages", ()))
    found = conditions(seen, before, ready_before, now)
    rows = _stages(seen, instances)
    decisions = remember(previous.get("decisions", ()), seen.record)
    return {
        "observedGeneration": spec.generation,
        "conditions": _conditions(found, before, spec.generation, now),
        "instances": len(placed),
        "gpus": len(placed) * spec.gpus_per_instance,
        "selector": (
            f"{names.LABEL_SERVICE}={spec.name},{names.LABEL_SERVICE_UID}={spec.uid},"
            f"{names.LABEL_PLACED}=true"
        ),
        "url": f"http://{spec.name}.{spec.namespace}.svc",
        "partition": word([row["desired"] for row in rows if row["desired"]]),
        "stages": rows,
        "plan": _plan(spec.name, seen.shown),
        **({"decisions": decisions} if decisions else {}),
    }


def error_status(previous: Json, error: PassError, generation: int, now: float) -> dict[str, Any]:
    """The status before, with what made the pass fail before it could see the pods."""
    before = by_type(previous)
    old = dict(before.get("Progressing", {}))
    failed = {"status": "False", "reason": error.reason, "message": error.message[:1024]}
    entries = [dict(entry) for type_, entry in before.items() if type_ != "Progressing"]
    if "Ready" not in before:
        entries.insert(0, _entry("Ready", failed, {}, generation, now))
    entries.append(_entry("Progressing", failed, old, generation, now))
    return {**previous, "observedGeneration": generation, "conditions": entries}


def _conditions(
    found: Sequence[Condition], before: Mapping[str, Json], generation: int, now: float
) -> list[dict[str, Any]]:
    return [
        _entry(
            condition.type,
            {
                "status": "True" if condition.holds else "False",
                "reason": str(condition.reason),
                "message": condition.message,
            },
            before.get(condition.type, {}),
            generation,
            now,
        )
        for condition in found
    ]


def _entry(
    type_: str, found: Mapping[str, str], old: Json, generation: int, now: float
) -> dict[str, Any]:
    same = old.get("status") == found["status"]
    return {
        "type": type_,
        **found,
        "observedGeneration": generation,
        "lastTransitionTime": old["lastTransitionTime"] if same else timestamp(now),
    }


def _stages(seen: Observation, instances: Sequence[Pod]) -> list[dict[str, Any]]:
    """One row per stage of the plan in force, and per stage that is still being emptied."""
    moving = in_transit(seen.snapshot)
    extra = [stage.index for stage in seen.snapshot.stages if stage.index >= len(seen.plan.counts)]
    desired = dict(enumerate(seen.plan.counts)) | dict.fromkeys(extra, 0)
    return [
        {
            "name": names.stage_name(seen.spec.name, index),
            "desired": desired[index],
            "ready": sum(1 for pod in instances if pod.stage == index and pod.ready),
            "moving": moving[index],
        }
        for index in sorted(desired)
    ]


def _plan(service: str, plan: PlanRecord) -> dict[str, Any]:
    result: dict[str, Any] = {
        "id": plan.id,
        "time": timestamp(plan.time),
        "stages": [
            {
                "name": names.stage_name(service, index),
                "minLength": stage.min_length,
                "maxLength": stage.max_length,
                "instances": stage.instances,
            }
            for index, stage in enumerate(plan.stages)
        ],
    }
    if plan.explanation:
        result["explanation"] = plan.explanation
    if plan.gain_percent is not None:
        result["predictedGainPercent"] = round(plan.gain_percent, 1)
    if plan.traffic is not None:
        result["traffic"] = {
            "requestsPerSecond": round(plan.traffic.requests_per_second, 3),
            "promptTokensMean": round(plan.traffic.prompt_tokens_mean, 1),
            "outputTokensMean": round(plan.traffic.output_tokens_mean, 1),
            "windowSeconds": plan.traffic.window_seconds,
        }
    return result
