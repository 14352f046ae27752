"""The search for many instances: a price per instance in place of their number.

Where every instance has a price, stages need not share a fixed number of them: each takes the
count that is cheapest for it, and the best partition is a cheapest chain of stages (a Lagrange
relaxation). The higher the price, the fewer instances are wanted. Where the demand is the supply,
the chain is an optimal partition; where the demand jumps across the supply, the chains met on the
way are given the instances there are. Every price proves a lower bound.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cascade_planner.allocation import allocate
from cascade_planner.chains import Chain, NumberedCosts, StageList
from cascade_planner.count_table import CountTable
from cascade_planner.partition import Solution, StageCosts

MAX_ROUNDS: Final = 40
"""Prices tried with one table. Ten is usual; demand may be flat, and then any price is as good."""
FIRST_STRIDE: Final = 8.0
"""Factor from price to price with the first table until the supply lies between two demands."""
NEXT_STRIDE: Final = 1.05
"""The same with a refined table, for which a good price is known."""
NOTHING: Final = 1e-9
"""Share of the cost that is nothing: instances that cost no more together are free."""
_ROUNDING: Final = 1e-12


@dataclass(slots=True)
class Market:
    """The search for the price at which a chain of `stages` stages wants the supply."""

    stages: int
    price: float
    """The price to try; once closed, the one that proves the highest bound."""
    scarce: Chain | None = None
    """The chain of the highest price tried that wants too many instances."""
    ample: Chain | None = None
    """The chain of the lowest price tried that wants too few."""
    met: dict[tuple[int, ...], Chain] = field(default_factory=dict)
    """All chains met, by their stages."""
    closed: bool = False

    def reopened(self) -> "Market":
        """A new search from the price found."""
        return Market(self.stages, self.price)

    def take(self, chain: Chain, supply: int, stride: float) -> None:
        """Learn the cheapest chain at the price. Close, or choose the next price."""
        self.met[chain.stages] = chain
        free = chain.demand < supply and self.price * supply <= NOTHING * chain.cost
        self.closed = free or chain.demand == supply or self._is_known(chain)
        if self.closed:
            return
        if chain.demand > supply:
            self.scarce = chain
        else:
            self.ample = chain
        if self.ample is None:
            self.price *= stride
        elif self.scarce is None:
            self.price /= stride
        else:
            # Where both cost the same: if no other chain is cheaper there, no price proves more.
            saved = self.ample.cost - self.scarce.cost
            self.price = saved / (self.scarce.demand - self.ample.demand)

    def _is_known(self, chain: Chain) -> bool:
        if self.scarce is None or self.ample is None:
            return False
        known = min(self.scarce.priced(self.price), self.ample.priced(self.price))
        return chain.priced(self.price) >= known * (1 - _ROUNDING)


def best_partitions(
    costs: StageCosts, cuts: int, instances: int, stage_counts: Sequence[int]
) -> tuple[Solution, ...]:
    """A cheap partition for each of `stage_counts` (ascending), with a lower bound.

    As `min_plus.best_partitions`, but for the work: it grows with the logarithm of the instances.
    Costs must not grow with the count of instances, or `at_least` means nothing. Exact wherever
    `cost` comes out as `at_least`.
    """
    stages = StageList.over(cuts)
    cost_of = stages.numbered(costs)
    wanted = [n for n in stage_counts if 1 <= n <= min(cuts, instances)]
    one_stage = Chain(stages.between((cuts,)), (instances,), 0.0)
    [one_stage] = allocate([one_stage], instances, cost_of)
    found = {1: _solution(one_stage, one_stage.cost, stages)}
    markets = [Market(n, one_stage.cost / instances or 1.0) for n in wanted if n > 1]
    if markets:
        markets, bounds = _clear(markets, stages, cost_of, instances)
        chains = [_give_out(market, instances, cost_of) for market in markets]
        for chain, bound in zip(chains, bounds, strict=True):
            found[len(chain.stages)] = _solution(chain, bound, stages)
    return tuple(found[n] for n in wanted)


def _clear(
    markets: list[Market], stages: StageList, costs: NumberedCosts, supply: int
) -> tuple[list[Market], list[float]]:
    """The markets closed, and what they prove, on a table with all the counts that matter."""
    table = CountTable.coarse(costs, len(stages.first), supply)
    stride = FIRST_STRIDE
    while True:
        for _ in range(MAX_ROUNDS):
            open_markets = [market for market in markets if not market.closed]
            if not open_markets:
                break
            _try_prices(open_markets, stages, table, supply, stride)
        prices = np.asarray([market.price for market in markets])
        floor, doubtful = table.doubts(prices)
        if not len(doubtful):
            chains = stages.cheapest_chains(floor, [market.stages for market in markets])
            proofs = zip(chains, prices.tolist(), strict=True)
            return markets, [value - price * supply for (value, _), price in proofs]
        table = table.refined(costs, doubtful)
        markets = [market.reopened() for market in markets]
        stride = NEXT_STRIDE


def _try_prices(
    markets: Sequence[Market], stages: StageList, table: CountTable, supply: int, stride: float
) -> None:
    """Let each market answer its price."""
    priced = table.priced(np.asarray([market.price for market in markets]))
    chains = stages.cheapest_chains(table.cheapest(priced), [market.stages for market in markets])
    for market, row, (_, chain) in zip(markets, priced, chains, strict=True):
        entries = [table.cheapest_entry(row, stage) for stage in chain]
        counts = tuple(int(count) for count in table.counts[entries])
        cost = float(table.costs[entries].sum())
        market.take(Chain(chain, counts, cost), supply, stride)


def _give_out(market: Market, supply: int, costs: NumberedCosts) -> Chain:
    """The best chain met, with exactly the supply."""
    exact = [chain for chain in market.met.values() if chain.demand == supply]
    return min(
        exact or allocate(tuple(market.met.values()), supply, costs), key=lambda chain: chain.cost
    )


def _solution(chain: Chain, at_least: float, stages: StageList) -> Solution:
    cuts = tuple(int(stages.last[stage]) for stage in chain.stages)
    # A bound that rounding puts above the cost is the cost.
    return Solution(chain.cost, cuts, chain.counts, min(at_least, chain.cost))
