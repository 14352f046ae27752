"""Which stage map the routers read: the plan's, as soon as each of its stages can serve."""

from dataclasses import replace

from cascade_operator.plans import PlanRecord
from cascade_operator.resources import stage_map_of
from cascade_operator.snapshot import Snapshot
from cascade_operator.spec import ServiceSpec
from cascade_operator.times import timestamp
from cascade_policy.stage_map import StageMap


def choose_map(
    spec: ServiceSpec, plan: PlanRecord, snapshot: Snapshot, current: StageMap | None
) -> StageMap:
    """The map to be in force.

    Until every stage of the plan has a ready instance the ranges stay, except where nothing
    serves yet or the ranges no longer reach maxLength. What is not a range follows the spec at
    once.
    """
    planned = stage_map_of(spec, plan, timestamp(plan.time))
    if current is None or current.plan_id == plan.id or current.max_length != spec.max_length:
        return planned
    ready = {pod.stage for pod in snapshot.pods if pod.warm and pod.ready}
    if not ready or ready.issuperset(range(len(plan.stages))):
        return planned
    return replace(
        planned,
        plan_id=current.plan_id,
        time=current.time,
        stages=current.stages,
        expected_remaining=current.expected_remaining,
    )
