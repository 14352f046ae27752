"""A plan that the changed spec has no place for is adapted at once; here it is said why."""

from dataclasses import replace

from cascade_operator.decisions import Decision, DecisionRecord, change_of
from cascade_operator.finding import Finding
from cascade_operator.plans import PlanRecord
from cascade_operator.reasons import Reason


def adapted(decision: Decision, before: PlanRecord, now: float) -> Decision:
    """`decision`, whose plan took the place of `before` because the spec changed, as a record and
    an event tell it; `now` in unix seconds."""
    plan = decision.plan
    verdict, told_as = change_of(before, plan)
    reason, message = _why(before, plan)
    record = DecisionRecord(now, verdict, reason, message, plan.id)
    return replace(decision, record=record, event=Finding(True, told_as, message))


def _why(before: PlanRecord, plan: PlanRecord) -> tuple[Reason, str]:
    old, new = before.partition, plan.partition
    if old.total != new.total:
        text = f"the plan was for {old.total} instances, the service has {new.total}"
        return Reason.INSTANCES_CHANGED, text
    if old.max_length != new.max_length:
        text = f"the plan ended at {old.max_length} tokens, the model does at {new.max_length}"
        return Reason.MAX_LENGTH_CHANGED, text
    text = f"stages are to end at {_inner(new.ends)} tokens, and ended at {_inner(old.ends)}"
    return Reason.BOUNDARIES_FIXED, text


def _inner(ends: tuple[int, ...]) -> str:
    return ", ".join(str(end) for end in ends[:-1]) or "none"
