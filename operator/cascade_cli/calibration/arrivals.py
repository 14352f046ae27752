"""When tokens arrived, rid of what hosts and sockets make of it.

A host that is busy delivers events late and several at once. Of those that come together the last
one is the least late, so the others are left out; and a step is told by blocks of several.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

import numpy as np

Point = tuple[float, int]
"""Seconds of one clock, and tokens of the answer by then."""

BLOCK_STEPS: Final = 8
"""Steps of a block: over as many, the delay of a socket is little beside them."""
_TOGETHER: Final = 0.25
"""Of a step: events that are no further apart were held up together."""


def blocks(points: Sequence[Point]) -> Iterator[tuple[float, int]]:
    """(seconds of a step, steps) of consecutive blocks of at least BLOCK_STEPS."""
    began: Point | None = None
    for time, count in points:
        if began is None:
            began = time, count
        elif count - began[1] >= BLOCK_STEPS:
            yield (time - began[0]) / (count - began[1]), count - began[1]
            began = time, count


def usual_step(points: Sequence[Point]) -> float:
    """Seconds of most steps: the median over blocks; of all points where they make no block."""
    found = [step for step, _ in blocks(points)]
    if found:
        return float(np.median(found))
    (start, first), (end, last) = points[0], points[-1]
    return (end - start) / max(1, last - first)


def unbunched(points: Sequence[Point]) -> list[Point]:
    """The points but those that came together with a later one."""
    if not points:
        return []
    apart = _TOGETHER * usual_step(points)
    kept = [early for early, late in pairwise(points) if late[0] - early[0] > apart]
    return [*kept, points[-1]]
