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
TOGETHER_SECONDS: Final = 0.0005
"""Events that are no further apart were held up together: no step of an engine is so short, and
reading an event that waits takes about a tenth of a millisecond."""


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
    kept = unbunched(points)
    found = [step for step, _ in blocks(kept)]
    if found:
        return float(np.median(found))
    (start, first), (end, last) = kept[0], kept[-1]
    return (end - start) / max(1, last - first)


def unbunched(points: Sequence[Point]) -> list[Point]:
    """The points but those that came together with a later one."""
    if not points:
        return []
    kept = [early for early, late in pairwise(points) if late[0] - early[0] > TOGETHER_SECONDS]
    return [*kept, points[-1]]
