"""Partitions of a line of lengths into stages, and what a search for the best takes and gives."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cascade_planner.arrays import Array, Index

EQUAL: Final = 1e-9
"""Relative difference below which two costs are one: rounding, not merit."""

StageCosts = Callable[[Index, Index, Array], Array]
"""(first, last, instances) -> cost, elementwise: a stage over the lengths from cut `first` to cut
`last` on so many instances. Cut 0 is length 0. Request-ms per ms."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Stages by their greatest lengths (the last is the model's maximum) and instance counts."""

    ends: tuple[int, ...]
    instances: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.ends or len(self.ends) != len(self.instances):
            raise ValueError(f"a partition needs a count for each of its stages: {self}")
        if any(low >= high for low, high in zip((0, *self.ends), self.ends, strict=False)):
            raise ValueError(f"stage ends must ascend: {self.ends}")
        if min(self.instances) < 1:
            raise ValueError(f"each stage needs an instance: {self.instances}")

    @property
    def total(self) -> int:
        """Instances of all stages."""
        return sum(self.instances)

    @property
    def max_length(self) -> int:
        """The greatest length that the last stage serves."""
        return self.ends[-1]

    @property
    def id(self) -> str:
        """Short hash of boundaries and counts: equal partitions have equal ids."""
        stages = zip(self.ends, self.instances, strict=True)
        text = ",".join(f"{end}:{count}" for end, count in stages)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    def moves_to(self, other: "Partition") -> int:
        """Instances that change stage, or are added, on the way to `other`."""
        stages = max(len(self.instances), len(other.instances))
        here = self.instances + (0,) * (stages - len(self.instances))
        there = other.instances + (0,) * (stages - len(other.instances))
        return sum(max(0, new - old) for old, new in zip(here, there, strict=True))


@dataclass(frozen=True, slots=True)
class Solution:
    """The cheapest partition found with one number of stages.

    `cuts` are indices of the lengths where its stages end, `instances` their counts. No partition
    with as many stages costs less than `at_least`, which is `cost` where the search is exact.
    """

    cost: float
    cuts: tuple[int, ...]
    instances: tuple[int, ...]
    at_least: float
