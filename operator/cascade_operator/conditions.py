"""From what a pass found to the conditions of the status. Pure, and tested as a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cascade_operator.finding import Finding
from cascade_operator.moves import ReleasePod
from cascade_operator.observation import Observation
from cascade_operator.reasons import Reason
from cascade_operator.rollout import Verdict
from cascade_operator.snapshot import STAGE_LEAVING, Pod

Json = Mapping[str, Any]

READY: Final = "Ready"
PROGRESSING: Final = "Progressing"
DEGRADED: Final = "Degraded"
METRICS_AVAILABLE: Final = "MetricsAvailable"
PLAN_APPLIED: Final = "PlanApplied"
ROUTER_READY: Final = "RouterReady"

_TROUBLES: Final[dict[str, Reason]] = {
    "Unschedulable": Reason.UNSCHEDULABLE,
    "ErrImagePull": Reason.IMAGE_PULL_FAILED,
    "ImagePullBackOff": Reason.IMAGE_PULL_FAILED,
    "ErrImageNeverPull": Reason.IMAGE_PULL_FAILED,
    "InvalidImageName": Reason.IMAGE_PULL_FAILED,
    "CrashLoopBackOff": Reason.CONTAINER_CRASHING,
    "RunContainerError": Reason.CONTAINER_CRASHING,
    "CreateContainerConfigError": Reason.CONTAINER_NOT_CREATED,
    "CreateContainerError": Reason.CONTAINER_NOT_CREATED,
}
_UNDERWAY: Final = frozenset(
    {
        Reason.WAITING_FOR_ROLLOUT,
        Reason.WAITING_FOR_STAGES,
        Reason.MOVING_INSTANCES,
        Reason.INVALID_SPEC,
        Reason.NAME_TAKEN,
        Reason.REFUSED_BY_CLUSTER,
        Reason.CLUSTER_ERROR,
        Reason.NAMESPACE_TERMINATING,
    }
)
"""Reasons of PlanApplied that tell how far the plan is, not what was decided about it."""
START_LIMIT_SECONDS: Final = 1800.0
"""An instance that is not ready so long after it got its node is no longer just starting: the
weights of a 70B model, 140 GB, come in 19 minutes over 1 Gbit/s."""
SANDBOX_LIMIT_SECONDS: Final = 60.0
"""Volumes that are not mounted so long after a pod got its node: a Secret or ConfigMap that does
not exist keeps it waiting without any other sign in its status."""
_MESSAGE_LIMIT: Final = 1024
_NAMED_PODS: Final = 3


@dataclass(frozen=True, slots=True)
class Condition:
    """A metav1.Condition without its times."""

    type: str
    holds: bool
    reason: Reason
    message: str


def conditions(
    seen: Observation, previous: Json, ready_before: int, now: float
) -> tuple[Condition, ...]:
    """All conditions, in the order in which they are shown; `now` in unix seconds.

    `previous` maps condition types to the conditions in the status, and `ready_before` is the
    number of ready instances there, for the two that depend on what was before: an instance that
    starts is not yet degradation, one that is lost is.
    """
    findings = {
        READY: _ready(seen, previous),
        PROGRESSING: _progressing(seen),
        DEGRADED: _degraded(seen, previous, ready_before, now),
        METRICS_AVAILABLE: _metrics(seen, previous),
        PLAN_APPLIED: _plan_applied(seen, previous),
        ROUTER_READY: _router_ready(seen),
    }
    return tuple(
        Condition(type_, finding.holds, finding.reason, finding.message[:_MESSAGE_LIMIT])
        for type_, finding in findings.items()
    )


def _instances(seen: Observation) -> list[Pod]:
    return [pod for pod in seen.snapshot.pods if pod.warm]


def _ready_count(seen: Observation) -> int:
    return sum(1 for pod in _instances(seen) if pod.ready)


def _ready(seen: Observation, previous: Json) -> Finding:
    ready, declared = _ready_count(seen), seen.spec.instances
    if ready and seen.stage_map is not None and not (seen.error and seen.error.cuts_off):
        return Finding(True, Reason.SERVING, f"{ready} of {declared} instances are ready")
    if seen.error is not None:
        return Finding(False, Reason(seen.error.reason), seen.error.message)
    before = previous.get(READY, {}).get("reason", Reason.STARTING)
    if before in (Reason.SERVING, Reason.NO_INSTANCE_READY):
        return Finding(
            False,
            Reason.NO_INSTANCE_READY,
            f"none of {declared} instances is ready any more; see Degraded",
        )
    return Finding(False, Reason.STARTING, f"waiting for the first of {declared} instances")


def _progressing(seen: Observation) -> Finding:
    if seen.error is not None:
        return Finding(False, Reason(seen.error.reason), seen.error.message)
    if seen.rollout.verdict in (Verdict.WAIT, Verdict.APPLY):
        return Finding(True, Reason.ROLLING_OUT, seen.rollout.message)
    leaving = [
        pod
        for pod in seen.snapshot.pods
        if pod.stage_label == STAGE_LEAVING and not pod.ended and not pod.gated
    ] + [write.pod for write in seen.step.writes if isinstance(write, ReleasePod)]
    if leaving:
        return Finding(
            True, Reason.REMOVING_INSTANCES, f"{_names(leaving)} leave their stages and are removed"
        )
    if seen.step.to_move:
        return _moving(seen, holds=True)
    missing = seen.spec.instances - _ready_count(seen)
    if missing > 0:
        return Finding(
            True, Reason.STARTING_INSTANCES, f"waiting for {missing} instances to become ready"
        )
    if not seen.step.done:
        return _moving(seen, holds=True)
    if seen.step.held_back:
        text = f"{seen.step.held_back} instances stay in their stages, where the plan has no place"
        return Finding(False, Reason.PAUSED, f"{text} for them, until planning goes on")
    return Finding(False, Reason.SETTLED, "every instance is where the plan wants it")


def _moving(seen: Observation, *, holds: bool) -> Finding:
    text = "stages are brought in line with the plan"
    if seen.step.to_move:
        text = f"{seen.step.to_move} running instances change their stage"
    if seen.step.waiting:
        text += f"; waiting for {seen.step.waiting}"
    return Finding(holds, Reason.MOVING_INSTANCES, text)


def _degraded(seen: Observation, previous: Json, ready_before: int, now: float) -> Finding:
    missing = seen.spec.instances - _ready_count(seen)
    if seen.rollout.verdict in (Verdict.WAIT, Verdict.APPLY) and missing <= 1:
        return Finding(False, Reason.ROLLING_OUT, "at most one instance is replaced at a time")
    if missing <= 0:
        return Finding(False, Reason.ALL_INSTANCES_READY, f"{seen.spec.instances} are ready")
    cause = _known_cause(seen, missing, now)
    if cause is not None:
        return cause
    lost = _ready_count(seen) < ready_before
    overdue = [
        pod
        for pod in _instances(seen)
        if pod.bound and not pod.ready and now - pod.since > START_LIMIT_SECONDS
    ]
    # What was lost stays lost until all are ready, though the status forgets how many there were.
    if not lost and not overdue and previous.get(DEGRADED, {}).get("status") != "True":
        return Finding(False, Reason.STARTING_INSTANCES, f"{missing} instances are starting")
    text = f"{missing} of {seen.spec.instances} instances are not ready"
    if overdue:
        text += f"; {_names(overdue)} for more than {START_LIMIT_SECONDS / 60:.0f} minutes"
    return Finding(True, Reason.INSTANCES_NOT_READY, text)


def _known_cause(seen: Observation, missing: int, now: float) -> Finding | None:
    """What the cluster says why instances are missing, if it says so."""
    failures = [
        rs.failure for stage in seen.snapshot.stages for rs in stage.replica_sets if rs.failure
    ]
    if failures:
        quota = "exceeded quota" in failures[0]
        reason = Reason.QUOTA_EXCEEDED if quota else Reason.POD_REFUSED
        return Finding(True, reason, failures[0])
    for pod in _instances(seen):
        if not pod.ready and pod.trouble is not None and pod.trouble.kind in _TROUBLES:
            return Finding(
                True,
                _TROUBLES[pod.trouble.kind],
                f"{missing} of {seen.spec.instances} instances are not ready; {pod.name}: "
                f"{pod.trouble.message}",
            )
    return _unmounted(seen, missing, now)


def _unmounted(seen: Observation, missing: int, now: float) -> Finding | None:
    """An instance whose containers wait for its volumes."""
    for pod in _instances(seen):
        if pod.bound and not pod.sandboxed and now - pod.since > SANDBOX_LIMIT_SECONDS:
            secret = seen.spec.router.api_keys_secret
            hint = "" if secret is None else f", such as Secret {secret} of spec.router.auth"
            return Finding(
                True,
                Reason.CONTAINER_NOT_CREATED,
                f"{missing} of {seen.spec.instances} instances are not ready; {pod.name}: its "
                f"volumes are not mounted after {SANDBOX_LIMIT_SECONDS:.0f} s; usually one of "
                f"them does not exist{hint}",
            )
    return None


def _metrics(seen: Observation, previous: Json) -> Finding:
    if seen.metrics.reason is not Reason.NOT_ASKED_YET:
        return seen.metrics
    return _standing(seen, previous.get(METRICS_AVAILABLE, {})) or seen.metrics


def _standing(seen: Observation, entry: Json) -> Finding | None:
    """What the status says already of this generation.

    It stays until Prometheus has answered: an operator that starts anew takes nothing back that it
    does not know better.
    """
    if entry.get("observedGeneration") != seen.spec.generation:
        return None
    try:
        reason = Reason(entry["reason"])
    except ValueError:
        return None
    return Finding(entry["status"] == "True", reason, entry["message"])


def _decision(seen: Observation, previous: Json) -> Finding:
    """What was decided about the plan, by this operator or, if it has yet to, by the last."""
    if seen.metrics.reason is not Reason.NOT_ASKED_YET or not seen.decision.holds:
        return seen.decision
    standing = _standing(seen, previous.get(PLAN_APPLIED, {}))
    return seen.decision if standing is None or standing.reason in _UNDERWAY else standing


def _plan_applied(seen: Observation, previous: Json) -> Finding:
    decision = _decision(seen, previous)
    if not decision.holds:
        return decision
    if seen.error is not None:
        return Finding(False, Reason(seen.error.reason), seen.error.message)
    if seen.rollout.verdict is not Verdict.READY:
        return Finding(False, Reason.WAITING_FOR_ROLLOUT, seen.rollout.message)
    if seen.stage_map is None or seen.stage_map.plan_id != seen.plan.id:
        return Finding(
            False,
            Reason.WAITING_FOR_STAGES,
            "a stage of the plan has no ready instance yet; routers keep the ranges before",
        )
    if not seen.step.done:
        return _moving(seen, holds=False)
    return decision


def _router_ready(seen: Observation) -> Finding:
    placed = [pod for pod in _instances(seen) if pod.bound]
    if not placed:
        return Finding(False, Reason.ROUTERS_NOT_RUNNING, "no instance is on a node yet")
    silent = [pod for pod in placed if not pod.router_running]
    if silent:
        return Finding(
            False, Reason.ROUTERS_NOT_RUNNING, f"the router of {_names(silent)} does not run"
        )
    return Finding(True, Reason.ROUTERS_RUNNING, f"{len(placed)} routers run")


def _names(pods: list[Pod]) -> str:
    named = ", ".join(pod.name for pod in pods[:_NAMED_PODS])
    more = len(pods) - _NAMED_PODS
    return f"{named} and {more} more" if more > 0 else named
