"""The heterogeneity factor H of what was timed, and the slope that the engine model wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

CAP: Final = 1.5
"""Of H in the engine model; above it a time tells nothing about the slope."""
MOST: Final = 3.0
STEP: Final = 0.005


@dataclass(frozen=True, slots=True)
class Timing:
    """One kernel on one batch. Times in ms, the middle half of all of them from `low` to `high`."""

    kernel: str
    batch: str
    sequences: int
    tokens: int
    cv: float
    ms: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Penalty:
    """An uneven batch beside the even one of as many sequences and tokens."""

    timing: Timing
    factor: float
    """H: its time over that of the even one."""


def penalties(timings: Sequence[Timing]) -> list[Penalty]:
    """H of every uneven batch whose even one was timed by the same kernel."""
    even = {
        (one.kernel, one.sequences, one.tokens): one.ms for one in timings if one.batch == "even"
    }
    found = []
    for one in timings:
        base = even.get((one.kernel, one.sequences, one.tokens))
        if one.batch != "even" and base:
            found.append(Penalty(one, one.ms / base))
    return found


def slope(found: Sequence[Penalty]) -> float | None:
    """`heterogeneity` h of H = min(1.5, 1 + h cv) by least squares, to `STEP`; None of nothing."""
    points = [(one.timing.cv, min(CAP, one.factor) - 1) for one in found]
    if not points:
        return None

    def error(h: float) -> float:
        return sum((min(CAP - 1, h * cv) - excess) ** 2 for cv, excess in points)

    return min((STEP * step for step in range(round(MOST / STEP) + 1)), key=error)
