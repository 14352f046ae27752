"""Instances for the stages of a chain, by marginal gain."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cascade_planner.arrays import Array, Index
from cascade_planner.chains import Chain, NumberedCosts


def allocate(
    chains: Sequence[Chain], supply: int, costs: NumberedCosts, slack: int = 2
) -> list[Chain]:
    """Chains of the same stages with `supply` instances each, at least one per stage.

    Counts lie around the given ones: as far as their demand is from the supply, and `slack`
    further. Within that, exact where costs are convex in the count. Elsewhere, if the given counts
    leave instances over, no worse than those counts with the rest given out on top of them.
    """
    windows = [_Window.around(chain, supply, slack) for chain in chains]
    stages = [
        np.broadcast_to(np.asarray(chain.stages)[:, None], window.counts.shape)
        for chain, window in zip(chains, windows, strict=True)
    ]
    flat = costs(_flat(stages), _flat([window.counts for window in windows]).astype(np.float64))
    tables = np.split(flat, np.cumsum([window.counts.size for window in windows])[:-1])
    return [
        _allocate_within(chain, window, table.reshape(window.counts.shape), supply)
        for chain, window, table in zip(chains, windows, tables, strict=True)
    ]


def _flat(arrays: Sequence[Index]) -> Index:
    return np.concatenate([array.ravel() for array in arrays])


@dataclass(frozen=True, eq=False, slots=True)
class _Window:
    """Counts to choose from."""

    counts: Index
    """[stage, choice], ascending; the last may repeat."""
    given: Index
    """Each stage's choice that is its given count."""

    @classmethod
    def around(cls, chain: Chain, supply: int, slack: int) -> "_Window":
        reach = abs(supply - chain.demand) + slack
        counts = np.asarray(chain.counts)
        least = np.maximum(counts - reach, 1)
        choices = np.minimum(least[:, None] + np.arange(2 * reach + 1), supply)
        return cls(choices, counts - least)


def _allocate_within(chain: Chain, window: _Window, costs: Array, supply: int) -> Chain:
    starts = [np.zeros_like(window.given)]
    if chain.demand <= supply:
        starts.append(window.given)
    given_out = (_by_gain(chain, window.counts, costs, supply, start) for start in starts)
    return min(given_out, key=lambda one: one.cost)


def _by_gain(chain: Chain, counts: Index, costs: Array, supply: int, start: Index) -> Chain:
    """Give each stage its count at `start`, and the rest one by one where it saves most."""
    rows = np.arange(len(counts))
    column = np.minimum(start[:, None] + np.arange(counts.shape[1]), counts.shape[1] - 1)
    counts, costs = counts[rows[:, None], column], costs[rows[:, None], column]
    # Where a cost is not convex, a later gain counts no more than those before it.
    gains = np.minimum.accumulate(costs[:, :-1] - costs[:, 1:], axis=1)
    gains[counts[:, 1:] == counts[:, :-1]] = -np.inf
    rest = supply - int(counts[:, 0].sum())
    best = np.argsort(-gains, axis=None, kind="stable")[:rest]
    choice = np.bincount(best // gains.shape[1], minlength=len(counts))
    chosen = tuple(counts[rows, choice].tolist())
    return Chain(chain.stages, chosen, float(costs[rows, choice].sum()))
