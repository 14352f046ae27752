"""The exact search: every cut and every number of instances, by min-plus products."""

import math
from collections.abc import Sequence

import numpy as np

from cascade_planner.arrays import Array
from cascade_planner.partition import Solution, StageCosts


def most_instances(cuts: int, stages: int, additions: float) -> int:
    """Instances up to which the search takes no more than so many additions."""
    return max(1, math.isqrt(int(2 * additions / (min(stages, cuts) * cuts**2))))


def cost_tensor(costs: StageCosts, cuts: int, instances: int) -> Array:
    """Cost of every stage over `cuts` buckets with 1..`instances`: [j, k, m-1].

    The stage lies between cuts j < k; infinite elsewhere.
    """
    first, last = np.triu_indices(cuts + 1, 1)
    counts = np.arange(1, instances + 1, dtype=np.float64)
    tensor = np.full((cuts + 1, cuts + 1, instances), np.inf)
    tensor[first, last] = costs(first[:, None], last[:, None], counts[None, :])
    return tensor


def best_partitions(tensor: Array, stage_counts: Sequence[int]) -> tuple[Solution, ...]:
    """The cheapest partition for each of `stage_counts` (ascending), exactly.

    `tensor[j, k, m-1]` is the cost of a stage over cuts j..k with m instances, 0 <= j < k <= K,
    infinite elsewhere. All K cuts are covered and all instances used. Stage counts that do not
    fit (more stages than cuts or instances) are left out. By direct min-plus:

        f[n][k][e] = min over j < k and m <= e of f[n-1][j][e-m] + tensor[j, k, m-1]

    which takes (stages x K^2 x E^2)/2 additions. Equal costs fall to the earlier cut and the
    smaller count, so the answer is a function of the costs alone.
    """
    cuts, instances = tensor.shape[0] - 1, tensor.shape[2]
    wanted = [n for n in stage_counts if 1 <= n <= min(cuts, instances)]
    if not wanted:
        return ()
    layer = np.full((cuts + 1, instances + 1), np.inf)
    layer[0, 0] = 0.0
    layers = [layer]
    for stages in range(1, wanted[-1]):
        layers.append(_one_stage_more(layers[-1], tensor, stages))
    return tuple(_trace(layers, tensor, n) for n in wanted)


def _one_stage_more(layer: Array, tensor: Array, stages: int) -> Array:
    """f[stages] from f[stages-1]: every way to add a last stage."""
    cuts, instances = tensor.shape[0], tensor.shape[2]
    grown = np.full((cuts, instances + 1), np.inf)
    # Stages before this one end at cut `before` at the earliest, and have an instance each.
    before = stages - 1
    for m in range(1, instances - before + 1):
        # (j, e) + (j, k) -> (j, k, e), least over j
        shorter = layer[before:, None, before : instances + 1 - m]
        sums = shorter + tensor[before:, stages:, m - 1, None]
        reached = grown[stages:, before + m :]
        np.minimum(reached, sums.min(axis=0), out=reached)
    return grown


def _trace(layers: Sequence[Array], tensor: Array, stages: int) -> Solution:
    """Walk back from the last cut along the choices that give the minimum."""
    k, left = tensor.shape[0] - 1, tensor.shape[2]
    cost = np.inf
    ends: list[int] = []
    counts: list[int] = []
    for n in range(stages, 0, -1):
        # options[j, m-1] = f[n-1][j][left-m] + tensor[j, k, m-1]
        options = layers[n - 1][:, left - 1 :: -1][:, :left] + tensor[:, k, :left]
        j, index = divmod(int(np.argmin(options)), left)
        if n == stages:
            cost = float(options[j, index])
        ends.append(k)
        counts.append(index + 1)
        k, left = j, left - index - 1
    return Solution(cost, tuple(reversed(ends)), tuple(reversed(counts)), at_least=cost)
