"""Where instances are to be while nodes do not take all of them."""

from collections.abc import Sequence
from typing import Final

from cascade_operator.plans import resize
from cascade_operator.snapshot import UNSCHEDULABLE, Pod, Snapshot

_TOLERATED: Final = 1.0
"""Instances by which a stage may differ from its share: less is not worth a move."""


def spread(counts: Sequence[int], snapshot: Snapshot) -> tuple[int, ...]:
    """`counts` (instances per stage, as planned), so that those that can run share out the plan.

    The scheduler leaves out whom it likes, and without this a stage might be left with nobody
    while another one has all of its instances. Those that find no node stay in their stages, so
    that what makes room for them, a person or an autoscaler, sees all of them; the others are
    spread in the proportions of the plan. The sum stays. Nothing changes where all can run, where
    those that wait leave nearly the right proportions, where fewer can run than there are stages,
    and before those that are beyond the sum are removed.

    It depends on which stages those that wait are in, and not on where the others are: the moves
    that follow from it change nothing about it.
    """
    waiting = [
        sum(1 for pod in snapshot.pods if pod.stage == index and _finds_no_node(pod))
        for index in range(len(counts))
    ]
    running = sum(counts) - sum(waiting)
    surplus = sum(1 for pod in snapshot.pods if pod.warm) > sum(counts)
    if running < len(counts) or surplus or _is_fair(counts, waiting):
        return tuple(counts)
    shares = resize(running, counts)
    return tuple(share + stuck for share, stuck in zip(shares, waiting, strict=True))


def _is_fair(counts: Sequence[int], waiting: Sequence[int]) -> bool:
    """Whether every stage has somebody left, and about its share of them."""
    part = 1 - sum(waiting) / sum(counts)
    return all(
        count - stuck >= 1 and abs(count - stuck - part * count) <= _TOLERATED
        for count, stuck in zip(counts, waiting, strict=True)
    )


def _finds_no_node(pod: Pod) -> bool:
    trouble = pod.trouble
    return pod.warm and not pod.bound and trouble is not None and trouble.kind == UNSCHEDULABLE
