"""Which plan is in force after this pass, which one the status shows, and why.

Pure. The planner says what would be best and whether the change pays; here it meets the user's
mode and what is known of the traffic.
"""

from dataclasses import dataclass, replace
from typing import Final

from cascade_operator.observation import Finding
from cascade_operator.plans import PlanRecord, TrafficSummary, stages_of
from cascade_operator.reasons import Reason
from cascade_operator.spec import Mode, ServiceSpec
from cascade_operator.traffic import PROBLEMS, QUIET
from cascade_planner import hysteresis
from cascade_planner.explain import explain
from cascade_planner.objective import Objective
from cascade_planner.plan import Plan, PlanOptions, solve
from cascade_planner.traffic import Traffic, TrafficProblem

_SHOWN_GAIN_STEP: Final = 2.0
"""Percent by which a prediction must differ before an unchanged plan is shown anew."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan in force, the one to show, and what to say about it."""

    plan: PlanRecord
    shown: PlanRecord
    finding: Finding
    event: Finding | None = None


def keep(plan: PlanRecord, why: Finding) -> Decision:
    """Nothing new is known: the plan in force stays."""
    if why.holds or why.reason is Reason.NOT_ASKED_YET:
        return Decision(plan, plan, in_force(plan))
    if plan.traffic is None:
        return Decision(
            plan, plan, Finding(True, why.reason, f"no plan could be made yet: {why.message}")
        )
    message = f"the last plan stays: {why.message}"
    return Decision(plan, plan, Finding(True, Reason.PLAN_KEPT, message))


def in_force(plan: PlanRecord) -> Finding:
    """What is said of a plan that needs no further words."""
    text = plan.explanation or "all lengths are served as before any traffic was seen"
    return Finding(True, Reason.PLAN_IN_FORCE, text)


def decide(
    plan: PlanRecord, traffic: Traffic | TrafficProblem, spec: ServiceSpec, now: float
) -> Decision:
    """Plan anew and keep or replace `plan`; `now` in unix seconds."""
    if isinstance(traffic, TrafficProblem):
        if traffic.reason in QUIET:
            return Decision(plan, plan, Finding(True, *QUIET[traffic.reason]))
        return keep(plan, Finding(False, PROBLEMS[traffic.reason], traffic.message))
    objective = Objective(
        ttft_target_ms=float(spec.ttft_target_ms), tpot_target_ms=float(spec.tpot_target_ms)
    )
    options = PlanOptions(
        max_stages=spec.planning.max_stages, boundaries=spec.planning.boundaries or None
    )
    model, current = spec.planning.engine_model, plan.partition
    candidate = solve(traffic, model, spec.instances, objective, options, current)
    verdict = hysteresis.decide(
        current,
        candidate,
        traffic,
        model,
        spec.instances,
        now=now,
        last_change=plan.moved or None,
        min_gain_percent=spec.planning.min_gain_percent,
        cooldown_seconds=spec.planning.cooldown_seconds,
        objective=objective,
        options=options,
    )
    return _judge(plan, record_of(candidate, traffic, plan, spec, now), verdict, spec)


def _judge(
    plan: PlanRecord, proposed: PlanRecord, verdict: hysteresis.Decision, spec: ServiceSpec
) -> Decision:
    if spec.planning.mode is Mode.ADVISORY:
        if proposed.partition == plan.partition:
            text = f"the present partition is the best one found. {proposed.explanation}"
        else:
            text = f"would change to {proposed.explanation} {verdict.message}"
        return Decision(plan, proposed, Finding(False, Reason.ADVISORY, text))
    if verdict.verdict is hysteresis.Verdict.APPLY:
        moved = proposed.counts != plan.counts
        event = Finding(
            True,
            Reason.PLAN_ADOPTED if moved else Reason.BOUNDARIES_CHANGED,
            f"{proposed.explanation} {verdict.message}",
        )
        return Decision(proposed, proposed, in_force(proposed), event)
    same = verdict.reason is hysteresis.Reason.PLAN_UNCHANGED
    if same and _worth_renewing(plan, proposed):
        renewed = replace(proposed, moved=plan.moved, time=plan.time, id=plan.id)
        return Decision(renewed, renewed, in_force(renewed))
    if same:
        return Decision(plan, plan, in_force(plan))
    kept = Finding(True, Reason.PLAN_IN_FORCE, f"the plan stays: {verdict.message}")
    return Decision(plan, plan, kept)


def _worth_renewing(plan: PlanRecord, proposed: PlanRecord) -> bool:
    """Whether the same stages are predicted to bring something else than what is written down."""
    if plan.gain_percent is None or proposed.gain_percent is None:
        return proposed.gain_percent is not None
    return abs(plan.gain_percent - proposed.gain_percent) > _SHOWN_GAIN_STEP


def record_of(
    candidate: Plan, traffic: Traffic, plan: PlanRecord, spec: ServiceSpec, now: float
) -> PlanRecord:
    """The planner's plan as the operator keeps it."""
    summary = traffic.summary
    moved = candidate.partition.instances != plan.counts
    return PlanRecord(
        id=candidate.id,
        time=now,
        moved=now if moved else plan.moved,
        stages=stages_of(candidate.partition),
        gain_percent=round(candidate.gain_percent, 2),
        explanation=explain(candidate),
        expected_remaining=tuple(
            (length, round(tokens, 1)) for length, tokens in traffic.expected_remaining
        ),
        traffic=TrafficSummary(
            requests_per_second=round(summary.requests_per_second, 4),
            prompt_tokens_mean=round(summary.prompt_mean, 1),
            output_tokens_mean=round(summary.output_mean, 1),
            window_seconds=spec.planning.window_seconds,
        ),
    )
