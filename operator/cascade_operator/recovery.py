"""The plan in force, read off the instances: for when the ConfigMap that held it is gone."""

from collections import Counter

from cascade_operator.plans import PlannedStage, PlanRecord
from cascade_operator.snapshot import Pod, Snapshot
from cascade_planner.partition import Partition


def recovered_plan(snapshot: Snapshot, now: float) -> PlanRecord | None:
    """The plan that the labels of warm pods tell: stage by stage, and range by range.

    None where they do not tell one plan.
    """
    counts: Counter[int] = Counter()
    ranges: dict[int, tuple[int, int]] = {}
    for pod in snapshot.pods:
        if not pod.warm or pod.stage is None:
            continue
        lengths = _range(pod)
        if lengths is None or ranges.setdefault(pod.stage, lengths) != lengths:
            return None
        counts[pod.stage] += 1
    if not ranges or sorted(ranges) != list(range(len(ranges))):
        return None
    starts = [0, *(ranges[index][1] + 1 for index in range(len(ranges) - 1))]
    if [ranges[index][0] for index in range(len(ranges))] != starts:
        return None
    stages = tuple(PlannedStage(*ranges[index], counts[index]) for index in range(len(ranges)))
    try:
        partition = Partition(
            tuple(stage.max_length for stage in stages), tuple(stage.instances for stage in stages)
        )
    except ValueError:
        return None
    return PlanRecord(id=partition.id, time=now, moved=now, stages=stages)


def _range(pod: Pod) -> tuple[int, int] | None:
    low, dash, high = (pod.length_range or "").partition("-")
    return (int(low), int(high)) if dash and low.isdecimal() and high.isdecimal() else None
