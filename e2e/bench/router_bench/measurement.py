"""The arithmetic of the bench: quantiles of one run, medians over several, what a router adds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quantiles:
    """In the unit of what was measured."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several runs, and the least and the greatest."""

    median: float
    least: float
    most: float


def quantiles(values: Sequence[float]) -> Quantiles:
    """The median and the 99th percentile: values that occurred, which at least that share of all
    do not exceed. Raises ValueError for no values."""
    if not values:
        raise ValueError("no value was measured")
    ordered = sorted(values)
    return Quantiles(_at(ordered, 50), _at(ordered, 99))


def _at(ordered: Sequence[float], percent: int) -> float:
    return ordered[math.ceil(percent * len(ordered) / 100) - 1]


def spread(values: Sequence[float]) -> Spread | None:
    """Over several runs; None where none came to a figure."""
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def added(with_router: Mapping[int, float], without: Mapping[int, float]) -> list[float]:
    """What a router adds to a figure, by repetition: each against the direct way of the same."""
    return [value - without[repeat] for repeat, value in with_router.items() if repeat in without]


def ratios(ours: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> list[float]:
    """By repetition, a figure as a multiple of the least of the others' in the same."""
    found = []
    for repeat, value in ours.items():
        best = min((other[repeat] for other in others if repeat in other), default=0.0)
        if best > 0:
            found.append(value / best)
    return found
