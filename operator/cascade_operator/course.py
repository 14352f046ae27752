"""What a pass does with the stages: moves, or the rollout of a template, never both. Pure."""

from collections import Counter
from collections.abc import Sequence

from cascade_operator.moves import CreateStage, Step, next_step
from cascade_operator.rollout import Rollout, Verdict, review
from cascade_operator.snapshot import Snapshot


def choose_course(
    snapshot: Snapshot,
    counts: Sequence[int],
    template_hash: str,
    *,
    mapped_stages: int,
    max_moving: int,
    paused: bool = False,
) -> tuple[Step, Rollout]:
    """The next step of the moves towards `counts` and what is to be done about `template_hash`.

    Moves that are under way end before a changed template is applied. Where the plan wants a stage
    that does not exist, they end where they are instead: created now, the stage would alone have
    the changed template, its instances could not come because templates differ, and the other
    stages would wait for it to become ready.
    """
    step = next_step(
        snapshot, counts, mapped_stages=mapped_stages, max_moving=max_moving, paused=paused
    )
    rollout = review(snapshot, template_hash, moves_done=step.done)
    begins = any(isinstance(write, CreateStage) for write in step.writes)
    if rollout.verdict is Verdict.FINISH_MOVES and begins:
        step = _to_the_end(snapshot, sum(counts), max_moving)
        rollout = review(snapshot, template_hash, moves_done=step.done)
    return step, rollout


def _to_the_end(snapshot: Snapshot, instances: int, max_moving: int) -> Step:
    """The step that ends moves and begins none: instances arrive where their labels say."""
    counts = _as_they_are(snapshot, instances)
    return next_step(
        snapshot, counts, mapped_stages=len(counts), max_moving=max_moving, paused=True
    )


def _as_they_are(snapshot: Snapshot, instances: int) -> tuple[int, ...]:
    """Instances per stage as their labels say; those that are missing where there is room."""
    have = Counter(pod.stage for pod in snapshot.pods if pod.warm)
    del have[None]
    missing = max(0, instances - have.total())
    for stage in snapshot.stages:
        more = min(missing, max(0, stage.replicas - have[stage.index]))
        have[stage.index] += more
        missing -= more
    have[0] += missing
    last = max(index for index in have if index is not None)
    return tuple(have[index] for index in range(last + 1))
