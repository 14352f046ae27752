"""Costs of stages at as few instance counts as a search needs."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_planner.arrays import Array, Index
from cascade_planner.chains import NumberedCosts

RATIO: Final = 1.15
"""Ratio of neighbouring counts in a coarse table: about 40 counts up to 1,000."""
PARTS: Final = 6
"""Parts into which an interval of counts is split when a better count may hide in it."""


@dataclass(frozen=True, eq=False, slots=True)
class CountTable:
    """Costs of `stages` stages at some instance counts: flat arrays, sorted by stage and count.

    Every stage is there with 1 instance and with the most. No cost may grow with the count, so
    between two neighbouring counts a < b nothing costs less than at b, and a table tells both what
    is cheapest among its entries and what may be cheaper elsewhere.
    """

    stages: int
    stage: Index
    counts: Array
    costs: Array
    starts: Index
    """Index of each stage's first entry."""

    @classmethod
    def coarse(cls, costs: NumberedCosts, stages: int, most: int) -> "CountTable":
        """Every stage at about geometric counts from 1 to `most`."""
        counts = [1]
        while counts[-1] < most:
            counts.append(min(max(counts[-1] + 1, round(counts[-1] * RATIO)), most))
        stage = np.repeat(np.arange(stages), len(counts))
        repeated = np.tile(np.asarray(counts, dtype=np.float64), stages)
        return cls(stages, stage, repeated, costs(stage, repeated), np.arange(stages) * len(counts))

    def priced(self, prices: Array) -> Array:
        """Cost plus instances at each of `prices`: [price, entry]."""
        priced: Array = np.multiply.outer(prices, self.counts)
        priced += self.costs
        return priced

    def cheapest(self, priced: Array) -> Array:
        """The least of each stage's entries: [price, stage]."""
        least: Array = np.minimum.reduceat(priced, self.starts, axis=1)
        return least

    def cheapest_entry(self, priced: Array, stage: int) -> int:
        """The entry of `stage` that is least in a row of `priced`; the smallest count of equals."""
        start = int(self.starts[stage])
        end = int(self.starts[stage + 1]) if stage + 1 < self.stages else len(self.counts)
        return start + int(np.argmin(priced[start:end]))

    def doubts(self, prices: Array) -> tuple[Array, Index]:
        """What the counts that are not in the table may hold at `prices`.

        A lower bound of each stage's cost over all counts, [price, stage], and the entries after
        which there may be a count that is cheaper than all entries of its stage.
        """
        least = self.cheapest(self.priced(prices))
        wide = np.flatnonzero(
            (self.stage[1:] == self.stage[:-1]) & (self.counts[1:] - self.counts[:-1] > 1)
        )
        if not len(wide):
            return least, wide
        stage = self.stage[wide]
        between = np.multiply.outer(prices, self.counts[wide] + 1) + self.costs[wide + 1]
        doubtful = wide[(between < least[:, stage]).any(axis=0)]
        present, starts = np.unique(stage, return_index=True)
        floor = least.copy()
        floor[:, present] = np.minimum(
            least[:, present], np.minimum.reduceat(between, starts, axis=1)
        )
        return floor, doubtful

    def refined(self, costs: NumberedCosts, doubtful: Index) -> "CountTable":
        """The table with more counts after each of the `doubtful` entries."""
        low, high = self.counts[doubtful], self.counts[doubtful + 1]
        steps = np.arange(1, PARTS) / PARTS
        between = np.rint(low + np.multiply.outer(steps, high - low))
        inside = (between > low) & (between < high)
        inside[1:] &= between[1:] > between[:-1]
        stage = np.broadcast_to(self.stage[doubtful], between.shape)[inside]
        counts = between[inside]
        all_stages = np.concatenate([self.stage, stage])
        all_counts = np.concatenate([self.counts, counts])
        order = np.lexsort((all_counts, all_stages))
        return CountTable(
            self.stages,
            all_stages[order],
            all_counts[order],
            np.concatenate([self.costs, costs(stage, counts)])[order],
            np.searchsorted(all_stages[order], np.arange(self.stages)),
        )
