"""The exact search over bundles of instances, for costs that a price cannot decide.

A price finds what marginal gains lead to. Where work does not fit, costs are no longer convex in
the count of instances, and a great shift can save what every small one loses.
"""

from collections.abc import Sequence

import numpy as np

from cascade_planner import min_plus
from cascade_planner.allocation import allocate
from cascade_planner.arrays import Array, Index
from cascade_planner.chains import Chain, StageList
from cascade_planner.partition import Solution, StageCosts


def best_partitions(
    costs: StageCosts, cuts: int, instances: int, stage_counts: Sequence[int], size: int
) -> tuple[Solution, ...]:
    """The cheapest partitions in bundles of `size` instances, then given single ones.

    As `min_plus.best_partitions`, but it proves nothing, and leaves out partitions of more stages
    than there are bundles.
    """

    def bundle_costs(first: Index, last: Index, bundles: Array) -> Array:
        return costs(first, last, bundles * size)

    tensor = min_plus.cost_tensor(bundle_costs, cuts, instances // size)
    solutions = min_plus.best_partitions(tensor, stage_counts)
    stages = StageList.over(cuts)
    chains = [
        Chain(
            stages.between(solution.cuts),
            tuple(size * bundles for bundles in solution.instances),
            solution.cost,
        )
        for solution in solutions
    ]
    chains = allocate(chains, instances, stages.numbered(costs), slack=2 * size)
    return tuple(
        Solution(chain.cost, solution.cuts, chain.counts, at_least=-np.inf)
        for chain, solution in zip(chains, solutions, strict=True)
    )
