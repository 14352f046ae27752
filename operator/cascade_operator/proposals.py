"""Advisory mode: one plan is proposed, stays proposed, and is applied when the user approves it."""

import math
from dataclasses import replace

from cascade_operator.decisions import Decision, DecisionRecord, change_of
from cascade_operator.finding import Finding
from cascade_operator.outcome_review import is_held_back, on_trial
from cascade_operator.plans import PlanRecord
from cascade_operator.reasons import Reason
from cascade_operator.spec import ANNOTATION_APPROVE, Mode, ServiceSpec
from cascade_operator.traffic import Latency
from cascade_operator.weighing import Weighing
from cascade_planner import hysteresis
from cascade_planner.refine import NOISE_PERCENT
from cascade_planner.traffic import Traffic


def tidy(plan: PlanRecord, spec: ServiceSpec) -> PlanRecord:
    """`plan` without a proposal that nobody may approve, and without an approval taken back."""
    if plan.proposal is not None and spec.planning.mode is not Mode.ADVISORY:
        plan = replace(plan, proposal=None)
    if plan.approved and spec.approved_plan is None:
        plan = replace(plan, approved="")
    return plan


def propose(plan: PlanRecord, weighing: Weighing) -> PlanRecord | None:
    """What is proposed in place of `plan` after this look at the traffic.

    A proposal stays until another plan, or the present one, is better by more than what is worth a
    change to the user and more than chance can feign: nobody can approve what changes each minute.
    """
    standing, best = plan.proposal, weighing.best.partition
    if standing is not None and standing.partition != plan.partition:
        requests = max(weighing.traffic.summary.requests, 1.0)
        wanted = max(weighing.spec.planning.min_gain_percent, NOISE_PERCENT / math.sqrt(requests))
        change = weighing.change_from(standing.partition, min_gain_percent=wanted)
        if change.verdict is hysteresis.Verdict.KEEP:
            return standing
    if best == plan.partition:
        return None
    change = weighing.change_from(plan.partition)
    overloaded = change.reason is hysteresis.Reason.CURRENT_OVERLOADED
    if change.verdict is hysteresis.Verdict.KEEP or is_held_back(
        plan, weighing.best.id, overloaded=overloaded, now=weighing.now
    ):
        return None
    return weighing.record(plan)


def advice(spec: ServiceSpec, proposal: PlanRecord) -> Finding:
    """What the user is told of a proposal."""
    return Finding(
        False,
        Reason.ADVISORY,
        f"would change to {proposal.explanation} To apply it: kubectl annotate --overwrite "
        f"-n {spec.namespace} cascadeservice {spec.name} {ANNOTATION_APPROVE}={proposal.id}",
    )


def approved(
    plan: PlanRecord,
    spec: ServiceSpec,
    now: float,
    heard: tuple[Traffic, Latency | None] | None = None,
) -> Decision | None:
    """The proposal in place of `plan` if the user approved exactly it; `now` in unix seconds.

    With `heard`, the newest window, it is reviewed like a plan that the planner chose.
    """
    proposal, wanted = plan.proposal, _unanswered(plan, spec)
    if proposal is None or wanted != proposal.id:
        return None
    adopted = replace(
        proposal,
        time=now,
        moved=now if proposal.counts != plan.counts else plan.moved,
        proposal=None,
        approved=proposal.id,
    )
    adopted = on_trial(adopted, plan, heard, spec, now)
    message = f"approved: {proposal.explanation}"
    verdict, told_as = change_of(plan, adopted)
    event = Finding(True, told_as, message)
    record = DecisionRecord(now, verdict, Reason.APPROVED, message, adopted.id)
    finding = Finding(True, Reason.PLAN_IN_FORCE, adopted.explanation)
    return Decision(adopted, adopted, finding, event, record)


def with_unknown_approval(decision: Decision, spec: ServiceSpec) -> Decision:
    """`decision`, which says so if the user approves what is not proposed."""
    wanted = _unanswered(decision.plan, spec)
    proposal = decision.plan.proposal
    if wanted is None or wanted == decision.plan.id:
        return decision
    if proposal is not None and wanted == proposal.id:
        return decision
    text = f"{ANNOTATION_APPROVE} names {wanted[:64]}, which is not proposed: nothing was applied; "
    if proposal is None:
        text += "no plan is proposed"
    else:
        text += f"{proposal.id} is: {proposal.explanation}"
    return replace(decision, finding=Finding(False, Reason.NOT_THE_PROPOSAL, text))


def _unanswered(plan: PlanRecord, spec: ServiceSpec) -> str | None:
    """The id that the user approves and that was not followed yet."""
    if spec.planning.mode is not Mode.ADVISORY or spec.approved_plan == plan.approved:
        return None
    return spec.approved_plan
