"""Which placeholders may become instances: as many as declared, and not one GPU more.

Depends on neither plan nor traffic being fresh: a lost instance is always replaced.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from cascade_operator.holdings import held
from cascade_operator.snapshot import Pod, Snapshot, Stage

_OVERDUE_SECONDS: Final = 30.0
"""After its grace period. A kubelet that lives has ended a pod by then."""


def choose_lifts(
    snapshot: Snapshot, counts: Sequence[int], instances: int, now: float
) -> tuple[Pod, ...]:
    """Placeholders whose gate is to be removed.

    `counts` are the instances that each stage is to have. A pod that is being deleted holds its
    GPUs until it is gone, so it still counts, unless it is overdue: then its node is lost, and
    the pod stays until somebody deletes the node. Lifting is final: the caller applies the result
    to exactly the pods of this snapshot, guarded by uid and resourceVersion.
    """
    budget = instances - sum(1 for pod in snapshot.pods if _holds_gpus(pod, now))
    wanted = _wanted(snapshot, counts)
    have = Counter(pod.stage for pod in snapshot.pods if pod.warm)
    room = {stage.index: _room(snapshot, stage) for stage in snapshot.stages}
    chosen: list[Pod] = []
    for pod in _placeholders(snapshot):
        index = pod.stage
        if len(chosen) >= budget:
            break
        if index is not None and have[index] < wanted.get(index, 0) and room[index] > 0:
            have[index] += 1
            room[index] -= 1
            chosen.append(pod)
    return tuple(chosen)


def _holds_gpus(pod: Pod, now: float) -> bool:
    return not pod.gated and not pod.ended and now < pod.end_by + _OVERDUE_SECONDS


def _room(snapshot: Snapshot, stage: Stage) -> int:
    """Placeholders that the controllers are certain to keep.

    Where a warm pod is on its way into the stage, a placeholder is about to be deleted for it;
    lifted, it would be a surplus instance, and a wrong one might be deleted.
    """
    current = stage.current
    if (
        current is None
        or stage.observed_generation < stage.generation
        or current.observed_generation < current.generation
    ):
        return 0
    all_held = sum(held(snapshot, rs, stage) for rs in stage.replica_sets)
    return min(current.replicas - held(snapshot, current, stage), stage.replicas - all_held)


def _wanted(snapshot: Snapshot, counts: Sequence[int]) -> dict[int, int]:
    """Instances per stage; while templates differ replicas stay as they are, so those count."""
    if len({stage.template_hash for stage in snapshot.stages}) > 1 or any(
        rs.replicas for stage in snapshot.stages for rs in stage.replica_sets if rs != stage.current
    ):
        return {stage.index: stage.replicas for stage in snapshot.stages}
    return dict(enumerate(counts))


def _placeholders(snapshot: Snapshot) -> list[Pod]:
    """Gated pods of the newest revision of their stage; older ones are on their way out."""
    current = {
        stage.current.uid: stage.index for stage in snapshot.stages if stage.current is not None
    }
    return [
        pod
        for pod in snapshot.pods
        if pod.live
        and pod.gated
        and pod.controller_uid in current
        and current[pod.controller_uid] == pod.stage
    ]
