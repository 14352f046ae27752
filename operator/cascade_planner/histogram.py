"""Length histograms as Prometheus gives them, and how they are brought onto our grid."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_policy.grid import length_grid

Array = NDArray[np.float64]

SHORTEST_LENGTH: Final = 1.0
"""Tokens: the least length a sequence can have, lower end of the first bucket."""
MAX_RATE: Final = 1e9
"""Requests per second: beyond any cluster, and far inside what sums of fourth powers can hold."""
NOISE: Final = 0.01
"""Share of the total by which a cumulative rate may fall, because sidecars are not scraped at one
moment and rates are extrapolated."""
TOTAL_TOLERANCE: Final = 0.05
"""Share by which a bucket may exceed the total before the histogram counts as inconsistent."""


class MalformedHistogram(ValueError):
    """The histogram holds something that is no cumulative rate; the message says what."""


class InconsistentHistogram(ValueError):
    """The histogram contradicts itself; the message says where."""


@dataclass(frozen=True, slots=True)
class LengthHistogram:
    """Cumulative rates: (upper bound in tokens, observations per second up to it).

    What `sum by (le) (rate(..._bucket[w]))` returns. The order is free, bounds may be missing or
    come from another grid, and two spellings of one bound (`16`, `16.0`) add up.
    """

    buckets: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, buckets: Iterable[tuple[float | str, float | str]]) -> "LengthHistogram":
        """From (le, rate) pairs, as numbers or as the strings of the Prometheus API.

        What is not a number becomes NaN, which `Traffic.from_histograms` reports.
        """
        return cls(tuple((_number(bound), _number(rate)) for bound, rate in buckets))

    @classmethod
    def of_lengths(
        cls, lengths: Iterable[float], seconds: float, max_length: int
    ) -> "LengthHistogram":
        """The histogram that `lengths` (tokens), seen within `seconds`, leave on our grid."""
        grid = np.asarray(length_grid(max_length), dtype=np.float64)
        ordered = np.sort(np.asarray(list(lengths), dtype=np.float64))
        counts = np.searchsorted(ordered, grid, side="right") / seconds
        pairs = zip(grid.tolist(), counts.tolist(), strict=True)
        return cls((*pairs, (math.inf, len(ordered) / seconds)))

    def cumulative_at(self, lengths: Array) -> Array:
        """Observations per second up to each of `lengths` (ascending, tokens).

        Between two bounds the lengths are taken as log-uniform. The last of `lengths` holds
        everything: longer observations belong to the last bucket. Zeros for an empty histogram.
        Raises MalformedHistogram, InconsistentHistogram.
        """
        if not self.buckets:
            return np.zeros(len(lengths))
        merged = _merge(self.buckets)
        total = _total(merged)
        xs, ys = [0.0], [0.0]
        for bound, rate in merged:
            # A bound that only some sidecars know counts too little: it is left out, not believed.
            if SHORTEST_LENGTH < bound < math.inf and rate >= ys[-1] - NOISE * total:
                xs.append(math.log(bound))
                ys.append(max(ys[-1], min(rate, total)))
        end = math.log(max(float(lengths[-1]), SHORTEST_LENGTH))
        if xs[-1] < end:
            xs.append(end)
            ys.append(total)
        at = np.interp(np.log(np.maximum(lengths, SHORTEST_LENGTH)), xs, ys)
        at[-1] = total
        return np.maximum.accumulate(at)


def _number(value: float | str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _merge(buckets: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sorted by bound, spellings of one bound added up."""
    merged: dict[float, float] = {}
    for bound, rate in buckets:
        if math.isnan(bound) or bound < 0:
            raise MalformedHistogram(f"a bucket bound is {bound}, not a length")
        if not 0 <= rate <= MAX_RATE:
            raise MalformedHistogram(f"the rate of bucket le={bound:g} is {rate}")
        merged[bound] = merged.get(bound, 0.0) + rate
    return sorted(merged.items())


def _total(merged: list[tuple[float, float]]) -> float:
    """The rate of all observations: the +Inf bucket, or the fullest where it is missing."""
    last_bound, last = merged[-1]
    fullest_bound, fullest = max(merged, key=lambda pair: pair[1])
    if last_bound == math.inf and fullest > last * (1 + TOTAL_TOLERANCE):
        raise InconsistentHistogram(
            f"bucket le={fullest_bound:g} counts {fullest:.4g}/s, all buckets together {last:.4g}/s"
        )
    return fullest
