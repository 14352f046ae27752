"""Partitions of a line of lengths into stages, and the dynamic programme that finds the best."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade_planner.histogram import Array


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
    """The cheapest partition with one number of stages.

    `cuts` are indices of the lengths where its stages end, `instances` their counts.
    """

    cost: float
    cuts: tuple[int, ...]
    instances: tuple[int, ...]


def best_partitions(prices: Array, stage_counts: Sequence[int]) -> tuple[Solution, ...]:
    """The cheapest partition for each of `stage_counts` (ascending), exactly.

    `prices[j, k, m-1]` is the cost of a stage over cuts j..k with m instances, 0 <= j < k <= K,
    infinite elsewhere. All K cuts are covered and all instances used. Stage counts that do not
    fit (more stages than cuts or instances) are left out. By direct min-plus:

        f[n][k][e] = min over j < k and m <= e of f[n-1][j][e-m] + prices[j, k, m-1]

    which takes (stages x K^2 x E^2)/2 additions. Equal costs fall to the earlier cut and the
    smaller count, so the answer is a function of the prices alone.
    """
    cuts, instances = prices.shape[0] - 1, prices.shape[2]
    wanted = [n for n in stage_counts if 1 <= n <= min(cuts, instances)]
    if not wanted:
        return ()
    layer = np.full((cuts + 1, instances + 1), np.inf)
    layer[0, 0] = 0.0
    layers = [layer]
    for _ in range(wanted[-1]):
        layers.append(_one_stage_more(layers[-1], prices))
    return tuple(_trace(layers, prices, n) for n in wanted)


def _one_stage_more(layer: Array, prices: Array) -> Array:
    """f[n] from f[n-1]: every way to add a last stage."""
    cuts, instances = prices.shape[0], prices.shape[2]
    grown = np.full((cuts, instances + 1), np.inf)
    for m in range(1, instances + 1):
        # (j, e) + (j, k) -> (j, k, e), least over j
        sums = layer[:, None, : instances + 1 - m] + prices[:, :, m - 1, None]
        np.minimum(grown[:, m:], sums.min(axis=0), out=grown[:, m:])
    return grown


def _trace(layers: Sequence[Array], prices: Array, stages: int) -> Solution:
    """Walk back from the last cut along the choices that gave the minimum."""
    k, left = prices.shape[0] - 1, prices.shape[2]
    total = float(layers[stages][k, left])
    ends: list[int] = []
    counts: list[int] = []
    for n in range(stages, 0, -1):
        # options[j, m-1] = f[n-1][j][left-m] + prices[j, k, m-1]
        options = layers[n - 1][:, left - 1 :: -1][:, :left] + prices[:, k, :left]
        j, index = divmod(int(np.argmin(options)), left)
        ends.append(k)
        counts.append(index + 1)
        k, left = j, left - index - 1
    return Solution(total, tuple(reversed(ends)), tuple(reversed(counts)))
