"""Traffic whose plan is known beforehand: a mix of short and of long requests. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Final

import numpy as np

from cascade_planner.histogram import LengthHistogram
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.profiles import profile

MAX_LENGTH: Final = 16384
BOUNDARY: Final = 2048
"""Where the first of two stages ends; fixed in the spec, so that a plan is two counts."""
PROFILE: Final = "simulated"
LOAD: Final = 0.5
"""Share of the limit of stability that the traffic is for one pool."""
WINDOW_SECONDS: Final = 600
_SHORT: Final = (300.0, 200.0)
_LONG: Final = (5000.0, 600.0)
"""Medians of prompt and output, tokens."""
_SPREAD: Final = 0.4
"""Standard deviation of the logarithm of lengths."""
_POINTS: Final = 400


@dataclass(frozen=True)
class Mix:
    """The two histograms, as requests per second, of traffic for so many instances."""

    prompts: LengthHistogram
    finals: LengthHistogram

    def traffic(self) -> Traffic:
        """What the planner makes of it. Raises ValueError where that is nothing."""
        made = Traffic.from_histograms(
            self.prompts, self.finals, MAX_LENGTH, window_seconds=WINDOW_SECONDS
        )
        if isinstance(made, TrafficProblem):
            raise ValueError(made.message)
        return made


@cache
def mix(long_share: float, instances: int) -> Mix:
    """Traffic at LOAD in which this share of the requests is long."""
    at_one = _mix(long_share, 1.0)
    pool = Partition((MAX_LENGTH,), (instances,))
    _, state = Pricing(at_one.traffic(), profile(PROFILE), Objective()).forecast(pool)
    return _mix(long_share, LOAD / float(state.load[0]))


def counts(one: Mix, instances: int) -> tuple[int, ...]:
    """Instances per stage that the planner gives it."""
    options = PlanOptions(boundaries=(BOUNDARY,))
    plan = solve(one.traffic(), profile(PROFILE), instances, Objective(), options)
    return plan.partition.instances


def shares(instances: int, first: Sequence[int]) -> list[float]:
    """Shares of long requests whose plans have about `first[i]` instances in the first stage."""
    return [_share(instances, wanted) for wanted in first]


def _share(instances: int, wanted: int) -> float:
    """Bisected: the more long requests, the fewer instances for short ones."""
    low, high = 0.001, 0.95
    for _ in range(16):
        middle = (low + high) / 2
        if counts(mix(middle, instances), instances)[0] > wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _mix(long_share: float, rate: float) -> Mix:
    short_prompts, short_finals = _lengths(*_SHORT)
    long_prompts, long_finals = _lengths(*_LONG)
    weights = np.concatenate([np.full(_POINTS, 1 - long_share), np.full(_POINTS, long_share)]) * (
        rate * WINDOW_SECONDS / _POINTS
    )

    def histogram(short: Sequence[float], long: Sequence[float]) -> LengthHistogram:
        return LengthHistogram.of_lengths([*short, *long], WINDOW_SECONDS, MAX_LENGTH, weights)

    return Mix(histogram(short_prompts, long_prompts), histogram(short_finals, long_finals))


def _lengths(prompt: float, output: float) -> tuple[list[float], list[float]]:
    """Prompts and final lengths at evenly spaced quantiles; the outputs in another order, so that
    the two are all but independent."""
    normal = NormalDist(0.0, _SPREAD)
    factors = [np.exp(normal.inv_cdf((index + 0.5) / _POINTS)) for index in range(_POINTS)]
    prompts = [float(min(prompt * factor, MAX_LENGTH - 1)) for factor in factors]
    outputs = [output * factors[(index * 171) % _POINTS] for index in range(_POINTS)]
    finals = [float(min(a + b, MAX_LENGTH)) for a, b in zip(prompts, outputs, strict=True)]
    return prompts, finals
