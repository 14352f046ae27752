"""Which plan is in force after this pass, which one the status shows, and why.

Pure. The planner says what would be best and whether the change pays; here it meets the user's
mode and what is known of the traffic.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from cascade_operator.decisions import Decision, DecisionRecord, Verdict, change_of
from cascade_operator.fast_loop import follow
from cascade_operator.finding import Finding
from cascade_operator.outcome_review import is_held_back, on_trial, review
from cascade_operator.plans import PlanRecord
from cascade_operator.proposals import advice, propose
from cascade_operator.reasons import Reason
from cascade_operator.spec import Mode, ServiceSpec
from cascade_operator.times import timestamp
from cascade_operator.traffic import PROBLEMS, QUIET, Latency
from cascade_operator.weighing import Weighing
from cascade_planner import hysteresis
from cascade_planner.traffic import Traffic, TrafficProblem

_SHOWN_GAIN_STEP: Final = 2.0
"""Percent by which a prediction must differ before an unchanged plan is shown anew."""

_REASONS: Final[Mapping[hysteresis.Reason, Reason]] = {
    hysteresis.Reason.PLAN_UNCHANGED: Reason.NOTHING_BETTER,
    hysteresis.Reason.GAIN_TOO_SMALL: Reason.NOTHING_BETTER,
    hysteresis.Reason.COOLING_DOWN: Reason.COOLING_DOWN,
    hysteresis.Reason.GAIN_ENOUGH: Reason.GAIN_ENOUGH,
    hysteresis.Reason.INSTANCES_CHANGED: Reason.INSTANCES_CHANGED,
    hysteresis.Reason.MAX_LENGTH_CHANGED: Reason.MAX_LENGTH_CHANGED,
    hysteresis.Reason.TOO_MANY_STAGES: Reason.TOO_MANY_STAGES,
    hysteresis.Reason.BOUNDARIES_FIXED: Reason.BOUNDARIES_FIXED,
    hysteresis.Reason.CURRENT_OVERLOADED: Reason.CURRENT_OVERLOADED,
}
"""What hysteresis says of a plan and known traffic. "Still the best" and "not enough better" are
one: under steady traffic chance alone goes back and forth between them."""
_WEIGHED: Final = frozenset(
    {
        hysteresis.Reason.GAIN_ENOUGH,
        hysteresis.Reason.GAIN_TOO_SMALL,
        hysteresis.Reason.COOLING_DOWN,
        hysteresis.Reason.CURRENT_OVERLOADED,
    }
)
"""Verdicts that know a gain."""
_CHOSEN: Final = frozenset({hysteresis.Reason.GAIN_ENOUGH, hysteresis.Reason.CURRENT_OVERLOADED})
"""Changes that the planner wants; all others are the user's."""


def paused(plan: PlanRecord) -> Decision:
    """The user wants nothing planned."""
    text = "spec.planning.mode is Paused: ranges stay and no instance changes its stage"
    return Decision(plan, plan, Finding(False, Reason.PAUSED, text))


def keep(plan: PlanRecord, why: Finding, spec: ServiceSpec, now: float) -> Decision:
    """Nothing new is known: the plan in force, and the one proposed, stay. `now` in unix
    seconds."""
    if why.holds or why.reason is Reason.NOT_ASKED_YET:
        return _staying(plan, in_force(plan), spec, None)
    record = DecisionRecord(now, Verdict.KEPT, why.reason, why.message, plan.id)
    if plan.traffic is None:
        finding = Finding(True, why.reason, f"no plan could be made yet: {why.message}")
    else:
        finding = Finding(True, Reason.PLAN_KEPT, f"the last plan stays: {why.message}")
    return _staying(plan, finding, spec, record)


def in_force(plan: PlanRecord) -> Finding:
    """What is said of a plan that needs no further words."""
    text = plan.explanation or "all lengths are served as before any traffic was seen"
    return Finding(True, Reason.PLAN_IN_FORCE, text)


def decide(
    plan: PlanRecord,
    traffic: Traffic | TrafficProblem,
    spec: ServiceSpec,
    now: float,
    latency: Latency | None = None,
    *,
    placed: bool = False,
) -> Decision:
    """Plan anew and keep, refine or replace `plan`; `now` in unix seconds.

    `latency` is what the requests of `traffic` measured; the record of the decision shows it.
    `placed` says whether every instance serves where `plan` wants it: else its ranges stay.
    """
    if isinstance(traffic, TrafficProblem):
        if traffic.reason in QUIET:
            reason, message = QUIET[traffic.reason]
            record = DecisionRecord(now, Verdict.KEPT, reason, message, plan.id)
            return _staying(plan, Finding(True, reason, message), spec, record)
        return keep(plan, Finding(False, PROBLEMS[traffic.reason], traffic.message), spec, now)
    plan, reviewed = review(plan, traffic, latency, spec, now)
    if reviewed is not None:
        return _in_mode(reviewed, spec)
    weighing = Weighing.of(plan, traffic, spec, now, latency)
    plan = _renewed(plan, weighing)
    if spec.planning.mode is Mode.ADVISORY:
        return _advise(plan, weighing)
    change = weighing.change_from(plan.partition, last_change=plan.moved or None)
    if change.verdict is hysteresis.Verdict.APPLY and not _waits(plan, weighing, change):
        return _adopt(plan, weighing, change)
    step = follow(plan, weighing) if placed else None
    if step is not None:
        return step
    record, finding = _kept(plan, weighing, change), in_force(plan)
    if record.reason is Reason.COOLING_DOWN:
        finding = Finding(True, Reason.PLAN_IN_FORCE, _cooling(plan, spec, now))
    return Decision(plan, plan, finding, record=record)


def _waits(plan: PlanRecord, weighing: Weighing, change: hysteresis.Decision) -> bool:
    """Whether a change that would pay has to wait, because the last one was taken back."""
    overloaded = change.reason is hysteresis.Reason.CURRENT_OVERLOADED
    return change.reason in _CHOSEN and is_held_back(
        plan, weighing.best.id, overloaded=overloaded, now=weighing.now
    )


def _cooling(plan: PlanRecord, spec: ServiceSpec, now: float) -> str:
    """Without the seconds that are left, which would change with every pass."""
    penalty = plan.penalty
    if penalty is not None and now < penalty.until:
        until = timestamp(penalty.until)
        return f"the plan stays until {until}, because plan {penalty.plan} was returned from"
    return f"the plan stays until {spec.planning.cooldown_seconds} s after the last change"


def _in_mode(reviewed: Decision, spec: ServiceSpec) -> Decision:
    """What came of a review, as the mode tells it."""
    if spec.planning.mode is not Mode.ADVISORY:
        return reviewed
    finding = Finding(False, Reason.ADVISORY, reviewed.finding.message)
    told = _staying(reviewed.plan, finding, spec, reviewed.record)
    return replace(told, event=reviewed.event)


def _adopt(plan: PlanRecord, weighing: Weighing, change: hysteresis.Decision) -> Decision:
    adopted = weighing.record(plan)
    if change.reason in _CHOSEN:
        heard = (weighing.traffic, weighing.latency)
        adopted = on_trial(adopted, plan, heard, weighing.spec, weighing.now)
    verdict, told_as = change_of(plan, adopted)
    event = Finding(True, told_as, f"{adopted.explanation} {change.message}")
    record = _record(verdict, adopted, weighing, change)
    return Decision(adopted, adopted, in_force(adopted), event, record)


def _advise(plan: PlanRecord, weighing: Weighing) -> Decision:
    proposal = propose(plan, weighing)
    plan = replace(plan, proposal=proposal)
    change = weighing.change_from(plan.partition)
    if proposal is None:
        record = _kept(plan, weighing, change)
        text = f"no other plan is worth a change. {plan.explanation}".rstrip()
        if record.reason is Reason.COOLING_DOWN:
            text = _cooling(plan, weighing.spec, weighing.now)
        return Decision(plan, plan, Finding(False, Reason.ADVISORY, text), record=record)
    record = replace(
        _record(Verdict.ADVISED, proposal, weighing, change),
        reason=Reason.ADVISORY,
        message=f"would change to {proposal.explanation}",
    )
    if proposal.id != weighing.best.id:
        record = replace(record, predicted_gain_percent=None)
    return _staying(plan, advice(weighing.spec, proposal), weighing.spec, record)


def _staying(
    plan: PlanRecord, finding: Finding, spec: ServiceSpec, record: DecisionRecord | None
) -> Decision:
    """`plan` stays, and what is proposed in its place, if anything, is what the user is told of."""
    if plan.proposal is None:
        return Decision(plan, plan, finding, record=record)
    return Decision(plan, plan.proposal, advice(spec, plan.proposal), record=record)


def _kept(plan: PlanRecord, weighing: Weighing, change: hysteresis.Decision) -> DecisionRecord:
    record = _record(Verdict.KEPT, plan, weighing, change)
    if change.verdict is hysteresis.Verdict.APPLY:
        # It would pay, but the last change was taken back.
        record = replace(record, reason=Reason.COOLING_DOWN)
    return record


def _record(
    verdict: Verdict, plan: PlanRecord, weighing: Weighing, change: hysteresis.Decision
) -> DecisionRecord:
    """The decision that led to `plan`."""
    return DecisionRecord(
        time=weighing.now,
        verdict=verdict,
        reason=_REASONS[change.reason],
        message=change.message,
        plan=plan.id,
        predicted_gain_percent=change.gain_percent if change.reason in _WEIGHED else None,
        measured_e2e_ms=None if weighing.latency is None else weighing.latency.mean_ms,
        predicted_e2e_ms=weighing.predicted_e2e_ms(plan.partition),
    )


def _renewed(plan: PlanRecord, weighing: Weighing) -> PlanRecord:
    """`plan` with the present prediction, if it is the best one and differs from what it says."""
    if weighing.best.partition != plan.partition:
        return plan
    before, gain = plan.gain_percent, weighing.best.gain_percent
    if before is not None and abs(before - gain) <= _SHOWN_GAIN_STEP:
        return plan
    return replace(
        weighing.record(plan),
        moved=plan.moved,
        time=plan.time,
        id=plan.id,
        proposal=plan.proposal,
        trial=plan.trial,
    )
