"""When a changed pod template may be applied, and to which stage.

A changed template restarts instances, so it goes stage by stage, and never together with moves:
while templates differ, a pod moved between stages would be adopted with the wrong template and
never be rolled.
"""

from dataclasses import dataclass
from enum import Enum, auto

from cascade_operator.snapshot import Snapshot, Stage


class Verdict(Enum):
    """What a pass may do about templates and moves."""

    READY = auto()
    """All stages carry the wanted template: moves may go on."""
    FINISH_MOVES = auto()
    """A new template waits until moves that are under way have ended; none is begun."""
    APPLY = auto()
    """Give `stage` the new template."""
    WAIT = auto()
    """A rollout is running: nothing else is written."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The verdict, the stage it is about, and the reason in words."""

    verdict: Verdict
    stage: Stage | None = None
    message: str = ""


def review(snapshot: Snapshot, template_hash: str, *, moves_done: bool) -> Rollout:
    """Decide what to do about the pod template `template_hash` that all stages are to have."""
    stages = [stage for stage in snapshot.stages if not stage.deleting]
    running = [stage for stage in stages if rolling(stage, snapshot)]
    for stage in running:
        if stage.template_hash != template_hash:
            return Rollout(
                Verdict.APPLY, stage, f"{stage.name} gets a newer template in mid-rollout"
            )
    if running:
        names = ", ".join(stage.name for stage in running)
        return Rollout(Verdict.WAIT, running[0], f"{names} rolls out a changed pod template")
    outdated = [stage for stage in stages if stage.template_hash != template_hash]
    if not outdated:
        return Rollout(Verdict.READY)
    same = len({stage.template_hash for stage in stages}) == 1
    if same and not moves_done:
        return Rollout(Verdict.FINISH_MOVES, outdated[0], "a changed template waits for moves")
    for stage in stages:
        if stage.template_hash == template_hash and not _all_ready(stage, snapshot):
            return Rollout(
                Verdict.WAIT, stage, f"{stage.name} has the changed pod template but is not ready"
            )
    # A stage that lacks an instance anyway loses none by being the first, and may be repaired.
    first = min(outdated, key=lambda stage: _all_ready(stage, snapshot))
    return Rollout(Verdict.APPLY, first, f"{first.name} gets the changed pod template")


def rolling(stage: Stage, snapshot: Snapshot) -> bool:
    """Whether the Deployment's controller has yet to bring all pods to its present template.

    A Deployment without a ReplicaSet is new: it has nothing to roll.
    """
    current = stage.current
    if current is None:
        return False
    if current.template_hash != stage.template_hash:
        return True
    old = {rs.uid for rs in stage.replica_sets if rs.uid != current.uid}
    if not old:
        return False
    if any(rs.replicas or rs.observed_replicas for rs in stage.replica_sets if rs.uid in old):
        return True
    return any(pod.live and pod.controller_uid in old for pod in snapshot.pods)


def _all_ready(stage: Stage, snapshot: Snapshot) -> bool:
    own = [pod for pod in snapshot.pods if pod.warm and pod.stage == stage.index]
    return len(own) >= stage.replicas and all(pod.ready for pod in own)
