"""What a pass does with the stages: moves, or the rollout of a template, never both. Pure."""

from collections import Counter
from collections.abc import Sequence

from cascade_operator.moves import Step, next_step
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

    A changed template goes first: moves that are under way end where they are, and the plan is
    followed when all stages have it. A stage that is made meanwhile would alone have the changed
    template; its instances could not come, because templates differ, and the other stages would
    wait for it to become ready.
    """
    step = next_step(
        snapshot, counts, mapped_stages=mapped_stages, max_moving=max_moving, paused=paused
    )
    rollout = review(snapshot, template_hash, moves_done=step.done)
    if rollout.verdict is Verdict.FINISH_MOVES:
        step = _to_the_end(snapshot, counts, max_moving)
        rollout = review(snapshot, template_hash, moves_done=step.done)
    return step, rollout


def _to_the_end(snapshot: Snapshot, counts: Sequence[int], max_moving: int) -> Step:
    """The step that ends moves and begins none: instances arrive where their labels say."""
    staying = _as_they_are(snapshot, counts)
    return next_step(
        snapshot, staying, mapped_stages=len(staying), max_moving=max_moving, paused=True
    )


def _as_they_are(snapshot: Snapshot, counts: Sequence[int]) -> tuple[int, ...]:
    """Instances per stage as their labels say; those that are missing where there is room, those
    beyond the sum of `counts` taken from where the plan wants fewer."""
    have = Counter(pod.stage for pod in snapshot.pods if pod.warm)
    del have[None]
    surplus = max(0, have.total() - sum(counts))
    missing = max(0, sum(counts) - have.total())
    for stage in reversed(snapshot.stages):
        wanted = counts[stage.index] if stage.index < len(counts) else 0
        fewer = min(surplus, max(0, have[stage.index] - wanted))
        have[stage.index] -= fewer
        surplus -= fewer
    for stage in snapshot.stages:
        more = min(missing, max(0, stage.replicas - have[stage.index]))
        have[stage.index] += more
        missing -= more
    have[0] += missing
    # All stages there are, so that none goes away before the plan is followed.
    known = {stage.index for stage in snapshot.stages} | {one for one in have if one is not None}
    return tuple(have[index] for index in range(max(known) + 1))
