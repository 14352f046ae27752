"""The slow loop's verdict: whether a new plan is worth changing to.

Its gain must exceed what is wanted after the cost of moving, and the cooldown must be over: moved
instances need time to be worth it. Boundaries alone move no instance, cost nothing and know no
cooldown; between plans they are the fast loop's (`refine`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import Plan, PlanOptions
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel

MOVE_MS: Final = 5_000.0
"""Working time of one instance that a move is taken to cost: for some seconds it runs sequences
of its old stage beside those of the new one, and its prefix cache serves nobody."""
MIN_PAYBACK_SECONDS: Final = 60.0
"""A plan is taken to last at least this long, however short the cooldown."""


class Verdict(StrEnum):
    """What to do with a candidate plan."""

    KEEP = "keep"
    APPLY = "apply"


class Reason(StrEnum):
    """Why."""

    FIRST_PLAN = "FirstPlan"
    PLAN_UNCHANGED = "PlanUnchanged"
    GAIN_TOO_SMALL = "GainTooSmall"
    COOLING_DOWN = "CoolingDown"
    GAIN_ENOUGH = "GainEnough"
    INSTANCES_CHANGED = "InstancesChanged"
    MAX_LENGTH_CHANGED = "MaxLengthChanged"
    TOO_MANY_STAGES = "TooManyStages"
    BOUNDARIES_FIXED = "BoundariesFixed"
    CURRENT_OVERLOADED = "CurrentOverloaded"
    NO_TRAFFIC = "NoTraffic"


@dataclass(frozen=True, slots=True)
class Decision:
    """Verdict on a candidate plan. `gain_percent` is net of moving, against the current plan."""

    verdict: Verdict
    reason: Reason
    message: str
    gain_percent: float = 0.0
    moves: int = 0


def decide(
    current: Partition | None,
    candidate: Plan,
    traffic: Traffic | None,
    model: EngineModel,
    instances: int,
    *,
    now: float,
    last_change: float | None,
    min_gain_percent: float,
    cooldown_seconds: float,
    objective: Objective | None = None,
    options: PlanOptions | None = None,
) -> Decision:
    """Keep `current` or apply `candidate`.

    What the user changed, and a current plan that cannot work, override gain and cooldown. `now`
    and `last_change` are seconds of one clock; no last change means no cooldown, and a change of
    boundaries alone asks for none. Without traffic, gains are unknown, and only the overrides
    count.
    """
    options = options or PlanOptions()
    if current is None:
        return Decision(Verdict.APPLY, Reason.FIRST_PLAN, "There is no plan yet.")
    target = candidate.partition
    forced = _forced(current, target, instances, options)
    if forced is not None:
        return forced
    if current == target:
        return Decision(
            Verdict.KEEP, Reason.PLAN_UNCHANGED, "The current plan is still the best one found."
        )
    if traffic is None:
        return Decision(
            Verdict.KEEP, Reason.NO_TRAFFIC, "Without known traffic the current plan is kept."
        )
    pricing = Pricing(traffic, model, objective or Objective(), options.crossing)
    return _weigh(
        pricing,
        current,
        target,
        since_change=None if last_change is None else now - last_change,
        min_gain_percent=min_gain_percent,
        cooldown_seconds=cooldown_seconds,
    )


def _forced(
    current: Partition, target: Partition, instances: int, options: PlanOptions
) -> Decision | None:
    """The change that must come whatever it gains, if there is one."""
    reason: Reason
    if current.total != instances:
        reason = Reason.INSTANCES_CHANGED
        message = f"The plan uses {current.total} instances, the service has {instances}."
    elif current.max_length != target.max_length:
        reason = Reason.MAX_LENGTH_CHANGED
        message = f"The plan ends at {current.max_length} tokens, the model at {target.max_length}."
    elif options.boundaries is not None and current.ends != target.ends:
        reason = Reason.BOUNDARIES_FIXED
        message = f"Boundaries are set by hand: {_boundaries(target)}, not {_boundaries(current)}."
    elif options.boundaries is None and len(current.ends) > options.max_stages:
        reason = Reason.TOO_MANY_STAGES
        message = f"The plan has {len(current.ends)} stages, maxStages is {options.max_stages}."
    else:
        return None
    return Decision(Verdict.APPLY, reason, message, moves=current.moves_to(target))


def _weigh(
    pricing: Pricing,
    current: Partition,
    target: Partition,
    *,
    since_change: float | None,
    min_gain_percent: float,
    cooldown_seconds: float,
) -> Decision:
    """Compare both partitions under the present traffic."""
    before, after = pricing.cost(current), pricing.cost(target)
    moves = current.moves_to(target)
    gain = 100 * (1 - (after + _moving_cost(before, current, moves, cooldown_seconds)) / before)
    what = f"{gain:.1f} % net gain for {moves} move{'' if moves == 1 else 's'}"

    def decision(verdict: Verdict, reason: Reason, message: str) -> Decision:
        return Decision(verdict, reason, message, gain, moves)

    if _overloaded(pricing, current) and after < before and not _overloaded(pricing, target):
        return decision(
            Verdict.APPLY,
            Reason.CURRENT_OVERLOADED,
            f"A stage of the current plan is overloaded, the new plan has none: {what}.",
        )
    if gain <= 0 or gain < min_gain_percent:
        return decision(
            Verdict.KEEP,
            Reason.GAIN_TOO_SMALL,
            f"{what}, less than the wanted {min_gain_percent:g} %.",
        )
    if moves and since_change is not None and since_change < cooldown_seconds:
        return decision(
            Verdict.KEEP,
            Reason.COOLING_DOWN,
            f"{what}, but the last change was {max(since_change, 0.0):.0f} s ago and the cooldown "
            f"is {cooldown_seconds:g} s.",
        )
    return decision(
        Verdict.APPLY, Reason.GAIN_ENOUGH, f"{what}, the wanted {min_gain_percent:g} % or more."
    )


def _moving_cost(before: float, current: Partition, moves: int, cooldown_seconds: float) -> float:
    """Cost of the moves spread over the time a plan lasts, request-ms per ms.

    A move delays one instance's share of the requests in the system by MOVE_MS.
    """
    lasts_ms = 1000 * max(cooldown_seconds, MIN_PAYBACK_SECONDS)
    return before / current.total * moves * MOVE_MS / lasts_ms


def _overloaded(pricing: Pricing, partition: Partition) -> bool:
    _, state = pricing.forecast(partition)
    return bool(state.load.max() >= 1 or state.kv_use.max() >= 1 or state.sequence_use.max() > 1)


def _boundaries(partition: Partition) -> str:
    inner = partition.ends[:-1]
    return ", ".join(str(end) for end in inner) if inner else "none"
