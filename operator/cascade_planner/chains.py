"""The cheapest chain of stages from the first cut to the last, for each number of stages."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade_planner.count_table import Costs
from cascade_planner.histogram import Array
from cascade_planner.partition import Index, StageCosts


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

    def numbered(self, costs: StageCosts) -> Costs:
        """The same costs, by the number of the stage."""

        def by_number(stage: Index, counts: Array) -> Array:
            return costs(self.first[stage], self.last[stage], counts)

        return by_number

    def cheapest_chains(
        self, costs: Array, lengths: Sequence[int]
    ) -> list[tuple[float, tuple[int, ...]]]:
        """(cost, stages) of the cheapest chain of lengths[i] stages that cost `costs[i]`.

        `costs` is [i, stage]. Chains run from cut 0 to the last. Of equal costs, the earlier cut.
        """
        between = np.full((len(lengths), self.cuts + 1, self.cuts + 1), np.inf)
        between[:, self.first, self.last] = costs
        layer = np.full((len(lengths), self.cuts + 1), np.inf)
        layer[:, 0] = 0.0
        layers = [layer]
        for _ in range(1, max(lengths)):
            layers.append((layers[-1][:, :, None] + between).min(axis=1))
        return [self._trace(layers, between, row, length) for row, length in enumerate(lengths)]

    def _trace(
        self, layers: Sequence[Array], between: Array, row: int, length: int
    ) -> tuple[float, tuple[int, ...]]:
        k = self.cuts
        cost = np.inf
        stages: list[int] = []
        for n in range(length - 1, -1, -1):
            options = layers[n][row] + between[row, :, k]
            j = int(options.argmin())
            if n == length - 1:
                cost = float(options[j])
            stages.append(int(self.number[j, k]))
            k = j
        return cost, tuple(reversed(stages))
