"""What others do to stages and instances: people, and controllers that are not ours. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cascade_operator.managers import Trace, traces, who
from cascade_operator.reasons import Reason
from cascade_operator.snapshot import Pod, Stage
from cascade_policy import names

Json = Mapping[str, Any]

_NAMED: Final = 3
_NOTHING: Final = "nothing"


@dataclass(frozen=True, slots=True)
class Act:
    """Something that others did, and what it has cost so far."""

    reason: Reason
    subject: str
    """The name of the object."""
    stages: frozenset[int]
    """Whose instances may end by it."""
    since: float
    what: str
    """Who did what, a sentence without its end."""
    answer: str
    """What the operator does about it."""
    lost: tuple[str, ...] = ()
    """Names of the instances that ended by it."""


def edit(stage: Stage, found: Sequence[Trace], now: float) -> Act:
    """That others wrote into a stage Deployment, and that the operator has undone it."""
    fields = [path for trace in found for path in trace.fields]
    named = f" ({some(fields)})" if fields else ""
    return _of_stage(
        Reason.STAGE_EDITED,
        stage,
        now,
        f"{who(found)} edited Deployment {stage.name}{named}",
        "the operator wrote its own spec over it",
    )


def rescaled(
    before: Stage | None, stage: Stage, counts: Sequence[int], now: float
) -> Iterable[Act]:
    """That others set the replicas of a stage, unless it was known, or nothing was and the plan
    wants them. The field's owner tells: whatever the operator sets itself is the operator's."""
    wanted = counts[stage.index] if stage.index < len(counts) else 0
    if not stage.scaled_by:
        return
    if before is None and stage.replicas == wanted:
        return
    if before is not None and (before.scaled_by, before.replicas) == (
        stage.scaled_by,
        stage.replicas,
    ):
        return
    source = f" from {before.replicas}" if before is not None else ""
    yield _of_stage(
        Reason.STAGE_SCALED,
        stage,
        now,
        f"{who(stage.scaled_by)} scaled Deployment {stage.name}{source} to {stage.replicas}",
        "the operator sets it back to what the plan wants",
    )


def restarted(stage: Stage, now: float) -> Act:
    """That others asked for a restart of a stage."""
    return _of_stage(
        Reason.STAGE_RESTARTED,
        stage,
        now,
        f"{who(stage.restarted_by)} restarted Deployment {stage.name}",
        f"its {stage.replicas} instances are replaced one after the other, and moves wait",
    )


def deleted(before: Stage, now: float) -> Act:
    """That others deleted a stage Deployment."""
    return _of_stage(
        Reason.STAGE_DELETED,
        before,
        now,
        f"somebody deleted Deployment {before.name}",
        "the operator creates it again, and it takes over the instances that run",
    )


def relabelled(
    stage: int | None, service: str | None, pod: Pod, answer: Json | None, now: float
) -> Act:
    """That others relabelled a pod of this stage and service; `answer` is the whole pod."""
    label, change = names.LABEL_POD_TEMPLATE_HASH, ""
    if pod.stage != stage:
        label, change = names.LABEL_STAGE, f" from {stage} to {pod.stage_label or _NOTHING}"
    elif pod.service != service:
        label, change = names.LABEL_SERVICE, f" from {service} to {pod.service or _NOTHING}"
    found = traces(answer, "metadata", "labels", label) if answer is not None else ()
    return Act(
        Reason.INSTANCE_RELABELLED,
        pod.name,
        frozenset(index for index in (stage, pod.stage) if index is not None),
        now,
        f"{who(found)} changed the label {label} of pod {pod.name}{change}",
        "the operator takes it into a stage again as it runs",
    )


def _of_stage(reason: Reason, stage: Stage, now: float, what: str, answer: str) -> Act:
    return Act(reason, stage.name, frozenset({stage.index}), now, what, answer)


def some(words: Sequence[str]) -> str:
    """A few of them, and how many more there are."""
    more = len(words) - _NAMED
    return ", ".join(words[:_NAMED]) + (f" and {more} more" if more > 0 else "")
