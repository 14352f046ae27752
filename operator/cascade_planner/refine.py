"""The fast loop: between two plans, boundaries alone follow the traffic, and no pod moves.

The same objective as the plan's, over the counts as they are. Not by equal load: that would undo
the inequality which the objective wants.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_planner.arrays import Array, Index
from cascade_planner.hysteresis import Verdict
from cascade_planner.objective import Objective
from cascade_planner.partition import EQUAL, Partition, StageCosts
from cascade_planner.plan import PlanOptions
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel

MAX_FACTOR: Final = 2**0.5
"""By which a boundary moves at most in one step: two bounds of the length grid, enough to see past
a bound that is worse than both its neighbours.

Each minute of two public traces, played at one constant rate on 16 H100; boundaries refined on a
minute and priced on the next one, in costs of that minute's best plan (geometric mean):

    trace, load       boundaries stay   refined   with factor 4
    Azure 0.4         42                1.35      1.52
    Azure 0.6         35                2.7       2.5
    Mooncake 0.5      1.07              1.05      1.04
    Mooncake 0.7      3.7               4.1       5.8

So the limit costs next to nothing where traffic moves for good, and bounds what one odd minute can
do. Prompts that grow by half at once are followed in one or two steps, threefold ones in three."""
MIN_GAIN_PERCENT: Final = 1.0
"""Of the cost: what a change must save however well the traffic is known."""
NOISE_PERCENT: Final = 400.0
"""What it must save in a window of one request; in one of n, the root of n times less.

In windows drawn from unchanged traces, boundaries then move: at load 0.5, in 1 % of windows of 300
requests and none of 1000; at 0.7, where a chance of overload outweighs all else, in a quarter of
windows of 300 and a tenth of 2000, which raises the true cost by 2 %. With gains above 1 % followed
they move in half the windows of 300."""


class RefineReason(StrEnum):
    """Why boundaries move or stay."""

    ONE_STAGE = "OneStage"
    BOUNDARIES_FIXED = "BoundariesFixed"
    MAX_LENGTH_CHANGED = "MaxLengthChanged"
    SETTLED = "Settled"
    GAIN_TOO_SMALL = "GainTooSmall"
    GAIN_ENOUGH = "GainEnough"


@dataclass(frozen=True, slots=True)
class Refinement:
    """Verdict on the boundaries of a partition.

    `partition` is the one to run, with the present counts. `gain_percent` is the cost that the best
    boundaries within reach are predicted to save against the present ones.
    """

    verdict: Verdict
    reason: RefineReason
    message: str
    partition: Partition
    gain_percent: float = 0.0


def refine(
    current: Partition,
    traffic: Traffic,
    engine: EngineModel,
    objective: Objective | None = None,
    options: PlanOptions | None = None,
) -> Refinement:
    """Move the boundaries of `current` towards the best for its counts, or keep them.

    `traffic` is that of the window to be followed. Exact over all boundaries within MAX_FACTOR of
    the present ones; what they save must exceed what noise in so few requests can feign.
    """
    options = options or PlanOptions()
    kept = _kept(current, traffic, options)
    if kept is not None:
        return kept
    pricing = Pricing(traffic, engine, objective or Objective(), options.crossing)
    before = pricing.cost(current)
    best = _best_within_reach(current, traffic, pricing, before)
    gain = 100 * (1 - pricing.cost(best) / before)
    if best == current or gain <= 0:
        return _keep(current, RefineReason.SETTLED, "No boundaries within reach are better.")
    wanted = max(MIN_GAIN_PERCENT, NOISE_PERCENT / math.sqrt(max(traffic.summary.requests, 1.0)))
    what = f"{_change(current, best)}: {gain:.1f} % gain"
    if gain < wanted:
        message = f"{what}, less than the {wanted:.1f} % wanted of so many requests."
        return _keep(current, RefineReason.GAIN_TOO_SMALL, message, gain)
    return Refinement(Verdict.APPLY, RefineReason.GAIN_ENOUGH, f"{what}.", best, gain)


def _kept(current: Partition, traffic: Traffic, options: PlanOptions) -> Refinement | None:
    """Why the boundaries are not to be looked at, if so."""
    if len(current.ends) == 1:
        return _keep(current, RefineReason.ONE_STAGE, "One stage has no boundary.")
    if options.boundaries is not None:
        return _keep(current, RefineReason.BOUNDARIES_FIXED, "The boundaries are set by hand.")
    if current.max_length != traffic.max_length:
        return _keep(
            current,
            RefineReason.MAX_LENGTH_CHANGED,
            f"The plan ends at {current.max_length} tokens, the model at {traffic.max_length}: "
            "that takes a new plan.",
        )
    return None


def _keep(current: Partition, reason: RefineReason, message: str, gain: float = 0.0) -> Refinement:
    return Refinement(Verdict.KEEP, reason, message, current, gain)


def _best_within_reach(
    current: Partition, traffic: Traffic, pricing: Pricing, before: float
) -> Partition:
    """The cheapest chain of stages whose ends are within reach of the present ones."""
    reach = [*(_reach(end, traffic) for end in current.ends[:-1]), np.array([current.max_length])]
    lengths = np.unique(np.concatenate(reach))
    costs = pricing.stages_between(lengths.tolist())
    starts, least = np.zeros(1, dtype=np.int64), np.zeros(1)
    came_from: list[Index] = []
    for end, count, ends in zip(current.ends, current.instances, reach, strict=True):
        # Of equal costs, the boundary that moves least.
        moved = before * EQUAL * np.abs(np.log2(ends / end))
        sums = least[:, None] + _stage_costs(costs, lengths, starts, ends, count) + moved
        came_from.append(sums.argmin(axis=0))
        starts, least = ends, sums.min(axis=0)
    chosen: list[int] = []
    at = 0
    for ends, previous in zip(reversed(reach), reversed(came_from), strict=True):
        chosen.append(int(ends[at]))
        at = int(previous[at])
    return Partition(tuple(reversed(chosen)), current.instances)


def _reach(end: int, traffic: Traffic) -> NDArray[np.int64]:
    """Where a boundary may be after one step: here, or at a bound of the grid nearby."""
    grid = traffic.bounds[1:-1]
    # The grid's bounds are rounded to whole tokens, and so are the limits.
    near = (grid >= math.floor(end / MAX_FACTOR)) & (grid <= math.ceil(end * MAX_FACTOR))
    return np.union1d(grid[near], [end]).astype(np.int64)


def _stage_costs(
    costs: StageCosts,
    lengths: NDArray[np.int64],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    instances: int,
) -> Array:
    """Cost of the stage from each of `starts` to each of `ends`, infinite where they would cross.

    `starts` are lengths, or 0 alone.
    """
    first, last = np.broadcast_arrays(
        np.searchsorted(lengths, starts, side="right")[:, None],
        np.searchsorted(lengths, ends, side="right")[None, :],
    )
    table = np.full(first.shape, np.inf)
    possible = first < last
    count = np.full(int(possible.sum()), float(instances))
    table[possible] = costs(first[possible], last[possible], count)
    return table


def _change(current: Partition, best: Partition) -> str:
    """`1024 to 1448 tokens`."""
    pairs = zip(current.ends, best.ends, strict=True)
    return ", ".join(f"{old} to {new} tokens" for old, new in pairs if old != new)
