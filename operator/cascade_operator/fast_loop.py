"""The fast loop: while the plan stays, its ranges follow the traffic, and no instance moves.

Pure. `cascade_planner.refine` says which step pays; here it is decided when one may be taken.
"""

from cascade_operator.decisions import Decision, DecisionRecord, Verdict
from cascade_operator.finding import Finding
from cascade_operator.outcome_review import is_held_back
from cascade_operator.plans import PlanRecord
from cascade_operator.reasons import Reason
from cascade_operator.weighing import Weighing
from cascade_planner.hysteresis import Verdict as Pays


def follow(plan: PlanRecord, weighing: Weighing) -> Decision | None:
    """`plan` with its ranges a step on; None where they stay.

    A plan on trial is left as it is: what two windows say has to be of one plan. So is every plan
    as long as one that was returned from holds changes back.
    """
    if plan.trial is not None:
        return None
    step = weighing.step_from(plan.partition)
    if step.verdict is Pays.KEEP:
        return None
    if is_held_back(plan, step.partition.id, overloaded=False, now=weighing.now):
        return None
    refined = weighing.refined(plan, step.partition)
    record = DecisionRecord(
        weighing.now,
        Verdict.BOUNDARIES_CHANGED,
        Reason.TRAFFIC_SHIFTED,
        step.message,
        refined.id,
        predicted_gain_percent=step.gain_percent,
        measured_e2e_ms=None if weighing.latency is None else weighing.latency.mean_ms,
        predicted_e2e_ms=weighing.predicted_e2e_ms(refined.partition),
    )
    event = Finding(
        True, Reason.BOUNDARIES_CHANGED, f"the ranges follow the traffic: {step.message}"
    )
    finding = Finding(True, Reason.PLAN_IN_FORCE, refined.explanation)
    return Decision(refined, refined, finding, event, record)
