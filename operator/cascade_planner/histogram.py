"""Length histograms as Prometheus gives them, and how they are brought onto our grid."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_planner.arrays import Array
from cascade_policy.grid import length_grid

SHORTEST_LENGTH: Final = 1.0
"""Tokens: the least length a sequence can have, lower end of the first bucket."""
MAX_RATE: Final = 1e9
"""Requests per second: beyond any cluster, and far inside what sums of fourth powers can hold."""
NOISE: Final = 0.01
"""Share of the total by which a cumulative rate may fall, because sidecars are not scraped at one
moment and rates are extrapolated."""
TOTAL_TOLERANCE: Final = 0.05
"""Share by which a bucket may exceed the total before the histogram counts as inconsistent."""
MAX_BEYOND: Final = 0.5
"""Share of observations that may lie beyond the longest bound, or beyond the model's maximum: some
do after the maximum was lowered; if most do, the histogram does not say how long they are."""


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
        cls,
        lengths: Sequence[float] | Array,
        seconds: float,
        max_length: int,
        counts: Array | None = None,
    ) -> "LengthHistogram":
        """The histogram that `lengths` (tokens), seen within `seconds`, leave on our grid.

        Each counts once, or `counts` times.
        """
        grid = np.asarray(length_grid(max_length), dtype=np.float64)
        seen = np.asarray(lengths, dtype=np.float64)
        order = np.argsort(seen)
        counted = np.ones(len(seen)) if counts is None else counts
        upto = np.concatenate([[0.0], np.cumsum(counted[order])])
        rates = upto[np.searchsorted(seen[order], grid, side="right")] / seconds
        pairs = zip(grid.tolist(), rates.tolist(), strict=True)
        return cls((*pairs, (math.inf, float(upto[-1]) / seconds)))

    def points(self, max_length: float) -> tuple[Array, Array]:
        """The histogram cleaned: lengths (ascending, tokens), and observations/s up to each.

        From SHORTEST_LENGTH, where there are none, to at least `max_length`, with all; longer
        ones count there. Raises MalformedHistogram, InconsistentHistogram.
        """
        merged = _merge(self.buckets)
        total = _total(merged)
        lengths, rates = [SHORTEST_LENGTH], [0.0]
        falling = 0
        for bound, rate in merged:
            if not SHORTEST_LENGTH < bound < math.inf:
                continue
            # A bound that only some sidecars know counts too little: it is left out, not believed.
            if rate < rates[-1] - NOISE * total:
                falling += 1
                continue
            lengths.append(bound)
            rates.append(max(rates[-1], min(rate, total)))
        if falling > len(lengths) - 1:
            raise InconsistentHistogram(
                f"{falling} of {len(merged)} buckets count less than shorter ones: each bucket "
                "must count all lengths up to its bound"
            )
        _check_reach(lengths, rates, total, max_length)
        if lengths[-1] < max_length:
            lengths.append(max_length)
            rates.append(total)
        rates[-1] = total
        return np.asarray(lengths), np.asarray(rates)

    def cumulative_at(self, lengths: Array) -> Array:
        """Observations per second up to each of `lengths` (ascending, tokens).

        Between two bounds the lengths are taken as log-uniform. The last of `lengths` holds
        everything: longer observations belong to the last bucket. Zeros for an empty histogram.
        Raises MalformedHistogram, InconsistentHistogram.
        """
        if not self.buckets:
            return np.zeros(len(lengths))
        bounds, rates = self.points(float(lengths[-1]))
        at = np.interp(np.log(np.maximum(lengths, SHORTEST_LENGTH)), np.log(bounds), rates)
        at[-1] = rates[-1]
        return at


def log_uniform_moment(low: Array, high: Array, power: int) -> Array:
    """Mean of l^power over lengths l that are log-uniform in (low, high]."""
    moment: Array = (high**power - low**power) / (power * np.log(high / low))
    return moment


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
            raise MalformedHistogram(
                f"a bucket bound is {bound}, not a length: check the label le of the series"
            )
        if not 0 <= rate <= MAX_RATE:
            raise MalformedHistogram(
                f"the rate of bucket le={bound:g} is {rate}: check that it is rate() of a counter, "
                "which a restart does not turn negative"
            )
        merged[bound] = merged.get(bound, 0.0) + rate
    return sorted(merged.items())


def _total(merged: list[tuple[float, float]]) -> float:
    """The rate of all observations: the longest bucket, which is +Inf where all is well."""
    longest, last = merged[-1]
    fullest, most = max(merged, key=lambda pair: pair[1])
    if most > last * (1 + TOTAL_TOLERANCE):
        raise InconsistentHistogram(
            f"bucket le={fullest:g} counts {most:.4g}/s, le={longest:g} only {last:.4g}/s: check "
            "that the series are cumulative buckets, and that le=+Inf is among them"
        )
    return most


def _check_reach(lengths: list[float], rates: list[float], total: float, max_length: float) -> None:
    """Refuse lengths of which most lie beyond what is known, or beyond what is possible."""
    known = min(lengths[-1], max(max_length, SHORTEST_LENGTH))
    within = float(np.interp(math.log(known), np.log(lengths), rates))
    if total <= 0 or total - within <= MAX_BEYOND * total:
        return
    share = f"{100 * (1 - within / total):.0f} % are longer than {known:g} tokens"
    if known < max_length:
        raise InconsistentHistogram(
            f"{share}, the longest bound: without buckets up to the model's maximum of "
            f"{max_length:g} tokens nobody knows how long they are"
        )
    raise InconsistentHistogram(
        f"{share}, the model's maximum: check maxLength, and that the series are of this model"
    )
