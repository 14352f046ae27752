"""Chains of stages from the first cut to the last, and the cheapest of each number of stages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cascade_planner.arrays import Array, Index
from cascade_planner.partition import StageCosts

NumberedCosts = Callable[[Index, Array], Array]
"""(stage, instances) -> cost, elementwise: as StageCosts, with stages by their number."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Stages from the first cut to the last with instance counts, and what they cost together."""

    stages: tuple[int, ...]
    counts: tuple[int, ...]
    cost: float

    @property
    def demand(self) -> int:
        """Instances of all stages."""
        return sum(self.counts)

    def priced(self, price: float) -> float:
        """Cost when an instance costs `price` as well."""
        return self.cost + price * self.demand


@dataclass(frozen=True, eq=False, slots=True)
class StageList:
    """All stages over a number of cuts, in a row: stage i lies between first[i] and last[i]."""

    cuts: int
    first: Index
    last: Index
    number: Index
    """[first, last] -> i, or -1."""

    @classmethod
    def over(cls, cuts: int) -> "StageList":
        """The stages over cuts 0..`cuts`."""
        first, last = np.triu_indices(cuts + 1, 1)
        number = np.full((cuts + 1, cuts + 1), -1)
        number[first, last] = np.arange(len(first))
        return cls(cuts, first, last, number)

    def between(self, cuts: Sequence[int]) -> tuple[int, ...]:
        """The stages that end at `cuts`, from cut 0 on."""
        return tuple(self.number[(0, *cuts[:-1]), cuts].tolist())

    def numbered(self, costs: StageCosts) -> NumberedCosts:
        """The same costs, by the number of the stage."""

        def by_number(stage: Index, counts: Array) -> Array:
            return costs(self.first[stage], self.last[stage], counts)

        return by_number

    def cheapest_chains(
        self, costs: Array, stage_counts: Sequence[int]
    ) -> list[tuple[float, tuple[int, ...]]]:
        """(cost, stages) of the cheapest chain of stage_counts[i] stages that cost `costs[i]`.

        `costs` is [i, stage]. Chains run from cut 0 to the last. Of equal costs, the earlier cut.
        """
        rows = len(stage_counts)
        between = np.full((rows, self.cuts + 1, self.cuts + 1), np.inf)
        between[:, self.first, self.last] = costs
        layer = np.full((rows, self.cuts + 1), np.inf)
        layer[:, 0] = 0.0
        layers = [layer]
        for _ in range(1, max(stage_counts)):
            layers.append((layers[-1][:, :, None] + between).min(axis=1))
        return [self._trace(layers, between, row, n) for row, n in enumerate(stage_counts)]

    def _trace(
        self, layers: Sequence[Array], between: Array, row: int, count: int
    ) -> tuple[float, tuple[int, ...]]:
        k = self.cuts
        cost = np.inf
        stages: list[int] = []
        for n in range(count - 1, -1, -1):
            options = layers[n][row] + between[row, :, k]
            j = int(options.argmin())
            if n == count - 1:
                cost = float(options[j])
            stages.append(int(self.number[j, k]))
            k = j
        return cost, tuple(reversed(stages))
