"""After a plan was adopted: are requests worse off than before? Then the plan before returns.

Traffic changes all the time, so latencies are not compared as they are. What is compared is their
*worth*: the mean end-to-end time that the requests of a window measured, over the one that the cost
model predicts for the partition **before** under the traffic of that very window. It is the same
partition on both sides of the comparison, so that whatever the model has wrong cancels.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from cascade_operator.decisions import Decision, DecisionRecord, Verdict
from cascade_operator.finding import Finding
from cascade_operator.moves import in_transit
from cascade_operator.plans import Penalty, PlanRecord, Trial, fit
from cascade_operator.reasons import Reason
from cascade_operator.snapshot import Snapshot
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import Latency
from cascade_operator.weighing import forecast
from cascade_planner.partition import Partition
from cascade_planner.stage_cost import MAX_LOAD
from cascade_planner.traffic import Traffic
from cascade_policy.stage_map import StageMap

WORSE: Final = 1.15
"""Worth after over worth before from which a plan is clearly worse: three times the 5 % that
minGainPercent asks for as it ships, and beyond the 5 % by which the worth of one and the same
partition differs between loads of 0.5 and 0.85 in simulation. Where chance does more, see NOISE."""
ENOUGH_REQUESTS: Final = 500
"""Completed requests that a window must hold to be a reading at all."""
READINGS: Final = 2
"""Readings of windows that do not overlap, one after the other, that decide for or against."""
NOISE: Final = 0.7
"""Standard deviation of the worth of one request at no load. In a window of n requests at load rho
it is NOISE / ((1 - rho) sqrt(n)): queues remember. From windows of simulated traffic that drifts
as two traces do, 16 H100, loads 0.5 to 0.85; steady traffic has half of it."""
_DEVIATIONS: Final = 2.5
"""By how many of them, of before and after together, both readings must be worse, beside WORSE."""
LONGEST_TRIAL_WINDOWS: Final = 24
"""After so many windows what was measured before is too old to be compared with."""
LONGEST_COOLDOWN_SECONDS: Final = 86_400.0
"""What doubling ends at: a day has seen all the traffic that there regularly is."""


@dataclass(frozen=True, slots=True)
class Worth:
    """One window. Mean end-to-end times in ms; `load` is the predicted one of the partition."""

    measured_ms: float
    predicted_ms: float
    requests: float
    load: float

    @property
    def ratio(self) -> float:
        """What is compared."""
        return self.measured_ms / self.predicted_ms

    @property
    def variance(self) -> float:
        """Relative, of the ratio, by chance alone."""
        return (NOISE / (1 - self.load)) ** 2 / self.requests


def worth_of(
    traffic: Traffic, latency: Latency | None, spec: ServiceSpec, partition: Partition
) -> Worth | None:
    """The worth of a window, or None: too few requests, or more than the model knows about."""
    if latency is None or latency.requests < ENOUGH_REQUESTS:
        return None
    predicted = forecast(traffic, spec, partition)
    if predicted.load >= MAX_LOAD or not 0 < predicted.e2e_ms < math.inf:
        return None
    return Worth(latency.mean_ms, predicted.e2e_ms, latency.requests, predicted.load)


def limit(before: Trial, after: Worth) -> float:
    """Ratio of worths above which `after` is clearly worse."""
    chance = _DEVIATIONS * math.sqrt(before.variance + after.variance)
    return max(WORSE, 1 + chance)


def on_trial(
    adopted: PlanRecord,
    former: PlanRecord,
    heard: tuple[Traffic, Latency | None] | None,
    spec: ServiceSpec,
    now: float,
) -> PlanRecord:
    """`adopted`, to be compared with `former`, or with what that one was still compared with: a
    plan that has not proved itself is nothing to return to.

    `heard` is the newest window before the change. Without a window that `former` had for itself
    there is nothing to compare with. `now` in unix seconds.
    """
    bare = replace(adopted, trial=None, penalty=former.penalty)
    standing = former.trial
    if standing is not None and standing.generation == spec.generation:
        if standing.former.partition == adopted.partition:
            return bare
        return replace(bare, trial=replace(standing, placed=0.0, read=0.0, worse=0, fine=0))
    had_window = now - max(former.time, former.moved) >= spec.planning.window_seconds
    if heard is None or not (had_window or former.traffic is None):
        return bare
    worth = worth_of(*heard, spec, former.partition)
    if worth is None:
        return bare
    trial = Trial(
        former=replace(former, trial=None, proposal=None, penalty=None),
        worth=worth.ratio,
        variance=worth.variance,
        generation=spec.generation,
        began=now,
    )
    return replace(bare, trial=trial)


def is_placed(plan: PlanRecord, snapshot: Snapshot, stage_map: StageMap | None) -> bool:
    """Whether every instance serves where the plan wants it, and routers know the plan."""
    if stage_map is None or stage_map.plan_id != plan.id or in_transit(snapshot):
        return False
    ready = [pod.stage for pod in snapshot.pods if pod.warm and pod.ready]
    return len(ready) == sum(plan.counts) and all(
        ready.count(index) == count for index, count in enumerate(plan.counts)
    )


def followed(plan: PlanRecord, placed: bool, spec: ServiceSpec, now: float) -> PlanRecord:
    """`plan` with its trial as it stands in this pass: a window counts from when all is placed.

    A changed spec ends the trial: what was measured before is of another service. An instance that
    is lost begins the window anew. A penalty never lasts longer than the spec has it at present.
    """
    penalty, trial = plan.penalty, plan.trial
    if penalty is not None:
        until = min(penalty.until, now + cooldown_after(penalty.returns, spec))
        plan = replace(plan, penalty=replace(penalty, until=until))
    if trial is None:
        return plan
    longest = LONGEST_TRIAL_WINDOWS * spec.planning.window_seconds
    if trial.generation != spec.generation or now - trial.began > longest:
        return replace(plan, trial=None)
    if placed == (trial.placed > 0):
        return plan
    anew = replace(trial, placed=now if placed else 0.0, read=0.0, worse=0, fine=0)
    return replace(plan, trial=anew)


def review(
    plan: PlanRecord, traffic: Traffic, latency: Latency | None, spec: ServiceSpec, now: float
) -> tuple[PlanRecord, Decision | None]:
    """`plan` after this window, and the decision that it led to, if the trial is over.

    A window that is not one of `plan` alone, or has too little in it, changes nothing.
    """
    trial = plan.trial
    if trial is None or not trial.placed:
        return plan, None
    if now - max(trial.placed, trial.read) < spec.planning.window_seconds:
        return plan, None
    after = worth_of(traffic, latency, spec, trial.former.partition)
    if after is None:
        return plan, None
    if after.ratio > trial.worth * limit(trial, after):
        trial = replace(trial, read=now, worse=trial.worse + 1, fine=0)
    else:
        trial = replace(trial, read=now, worse=0, fine=trial.fine + 1)
    if trial.worse >= READINGS:
        return plan, _return(plan, trial, after, spec, now)
    if trial.fine >= READINGS:
        return plan, _prove(plan, trial, after, now)
    return replace(plan, trial=trial), None


def is_held_back(plan: PlanRecord, candidate: str, *, overloaded: bool, now: float) -> bool:
    """Whether a change to the plan `candidate` (an id) has to wait because one was returned.

    Where the present plan is overloaded, another plan than the returned one may come at once.
    """
    penalty = plan.penalty
    if penalty is None or now >= penalty.until:
        return False
    return not overloaded or candidate == penalty.plan


def cooldown_after(returns: int, spec: ServiceSpec) -> float:
    """Seconds without a change after so many returns in a row: doubled by each, up to a day."""
    base = float(max(spec.planning.cooldown_seconds, spec.planning.window_seconds))
    # A power of a large number of returns would be no float.
    doubled = base * 2.0 ** min(returns, 32)
    return max(base, min(doubled, LONGEST_COOLDOWN_SECONDS))


def _return(
    plan: PlanRecord, trial: Trial, after: Worth, spec: ServiceSpec, now: float
) -> Decision:
    """Back to the plan before."""
    former = fit(trial.former, spec)
    returns = 1 + (plan.penalty.returns if plan.penalty is not None else 0)
    cooldown = cooldown_after(returns, spec)
    back = replace(
        former,
        time=now,
        moved=now if former.counts != plan.counts else plan.moved,
        approved=plan.approved,
        penalty=Penalty(plan.id, now + cooldown, returns),
    )
    message = (
        f"plan {plan.id} is given up for {back.id}, the one before: requests took "
        f"{after.ratio:.2f} times what is predicted with the latter, and {trial.worth:.2f} times "
        f"before the change; no change for {cooldown / 60:.0f} minutes"
    )
    record = _record(Verdict.RETURNED, Reason.LATENCY_WORSE, message, back, trial, after, now)
    finding = Finding(True, Reason.PLAN_IN_FORCE, message)
    return Decision(back, back, finding, Finding(False, Reason.PLAN_RETURNED, message), record)


def _prove(plan: PlanRecord, trial: Trial, after: Worth, now: float) -> Decision:
    """The plan stays, and what was returned before it is forgotten."""
    proven = replace(plan, trial=None, penalty=None)
    message = (
        f"plan {plan.id} has proved itself: requests took {after.ratio:.2f} times what is "
        f"predicted with the plan before, and {trial.worth:.2f} times before the change"
    )
    record = _record(Verdict.KEPT, Reason.LATENCY_NO_WORSE, message, proven, trial, after, now)
    return Decision(
        proven, proven, Finding(True, Reason.PLAN_IN_FORCE, plan.explanation), record=record
    )


def _record(
    verdict: Verdict,
    reason: Reason,
    message: str,
    plan: PlanRecord,
    trial: Trial,
    after: Worth,
    now: float,
) -> DecisionRecord:
    return DecisionRecord(
        now,
        verdict,
        reason,
        message,
        plan.id,
        measured_e2e_ms=after.measured_ms,
        predicted_e2e_ms=after.predicted_ms,
        worth_before=trial.worth,
        worth_after=after.ratio,
    )
