"""Which search finds the best partition: the exact one where it is quick, else the one by price."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cascade_planner import bundles, min_plus, price_search
from cascade_planner.partition import Solution, StageCosts

QUICK: Final = 1e7
"""Additions up to which the exact search is taken at once: some 15 ms, reached at about 80
instances with 20 cuts and 8 stages."""
AFFORDABLE: Final = 1.2e8
"""Additions spent where the price leaves doubt: some 150 ms, reached at about 270 instances."""
COARSE: Final = 3e7
"""Additions spent on bundles where that is not enough: some 40 ms, with about 140 bundles."""
DOUBT: Final = 1e-3
"""Share of the cost by which the price's bound must be below it to count as doubt."""


class Solver(StrEnum):
    """A search for the best partition."""

    MIN_PLUS = "min-plus"
    """Exact; its work grows with the square of the instances."""
    PRICE_SEARCH = "price search"
    """Exact where marginal gains fall, and says how nearly elsewhere; grows with the logarithm."""
    BUNDLES = "bundles"
    """The better of the price's and of min-plus with bundles of instances."""


@dataclass(frozen=True, slots=True)
class Search:
    """The best partition found for each number of stages, ascending, and by what."""

    solver: Solver
    solutions: tuple[Solution, ...]

    @property
    def in_doubt(self) -> bool:
        """Whether another partition might be noticeably cheaper."""
        least = min(solution.cost for solution in self.solutions)
        return min(solution.at_least for solution in self.solutions) < least * (1 - DOUBT)


def best_partitions(
    costs: StageCosts, cuts: int, instances: int, stage_counts: Sequence[int]
) -> Search:
    """The best partition for each of `stage_counts` (ascending) that fits, the first always."""
    most_stages = max(stage_counts)
    if instances <= min_plus.most_instances(cuts, most_stages, QUICK):
        return _exactly(costs, cuts, instances, stage_counts)
    by_price = Search(
        Solver.PRICE_SEARCH, price_search.best_partitions(costs, cuts, instances, stage_counts)
    )
    if not by_price.in_doubt:
        return by_price
    if instances <= min_plus.most_instances(cuts, most_stages, AFFORDABLE):
        return _exactly(costs, cuts, instances, stage_counts)
    size = -(-instances // min_plus.most_instances(cuts, most_stages, COARSE))
    by_bundles = bundles.best_partitions(costs, cuts, instances, stage_counts, size)
    return Search(Solver.BUNDLES, _cheaper(by_price.solutions, by_bundles))


def _exactly(costs: StageCosts, cuts: int, instances: int, stage_counts: Sequence[int]) -> Search:
    tensor = min_plus.cost_tensor(costs, cuts, instances)
    return Search(Solver.MIN_PLUS, min_plus.best_partitions(tensor, stage_counts))


def _cheaper(proven: Sequence[Solution], others: Sequence[Solution]) -> tuple[Solution, ...]:
    """The cheaper of each number of stages, with what is proven."""
    by_stages = {len(other.cuts): other for other in others}
    pairs = ((one, by_stages.get(len(one.cuts), one)) for one in proven)
    return tuple(
        replace(other, at_least=one.at_least) if other.cost < one.cost else one
        for one, other in pairs
    )
