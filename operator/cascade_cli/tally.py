"""Counts the lengths of a trace of any size in a few kilobytes."""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from cascade_cli.traces import MAX_TOKENS, TraceRequest
from cascade_planner.arrays import Array
from cascade_planner.histogram import LengthHistogram
from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.grid import length_grid

POINTS_PER_DOUBLING: Final = 32
"""Fineness of the counts: quantiles are within about 1 %."""
LONGEST: Final = 2 * MAX_TOKENS


def _bounds() -> Array:
    """Fine upper bounds, among them all of the planner's grid, so that its counts are exact."""
    steps = np.arange(POINTS_PER_DOUBLING * math.log2(LONGEST) + 1) / POINTS_PER_DOUBLING
    return np.union1d(np.unique(np.round(2**steps)), length_grid(LONGEST)).astype(np.float64)


_BOUNDS: Final = _bounds()


class LengthCounts:
    """How many lengths fell into each bucket, and their sums."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_BOUNDS))
        self._sums = np.zeros(len(_BOUNDS))

    def add(self, lengths: Array) -> None:
        """Count `lengths` (tokens, 1..LONGEST)."""
        at = np.searchsorted(_BOUNDS, lengths)
        self._counts += np.bincount(at, minlength=len(_BOUNDS))
        self._sums += np.bincount(at, weights=lengths, minlength=len(_BOUNDS))

    @property
    def longest(self) -> int:
        """Upper bound of the last bucket that holds a length."""
        return int(_BOUNDS[np.flatnonzero(self._counts)[-1]])

    @property
    def mean(self) -> float:
        """Mean length, exact."""
        return float(self._sums.sum() / self._counts.sum())

    def histogram(self, seconds: float) -> LengthHistogram:
        """Cumulative rates, as if seen within `seconds`."""
        rates = np.cumsum(self._counts) / seconds
        return LengthHistogram(tuple(zip(_BOUNDS.tolist(), rates.tolist(), strict=True)))

    def quantile(self, share: float) -> float:
        """The length that `share` (above 0) of all do not exceed; log-uniform within a bucket."""
        counts = np.cumsum(self._counts)
        wanted = share * float(counts[-1])
        at = int(np.searchsorted(counts, wanted))
        shorter, longest = map(float, np.concatenate([[0.0], _BOUNDS])[at : at + 2])
        part = 1 - (float(counts[at]) - wanted) / float(self._counts[at])
        low = max(shorter, 1.0)
        # Lengths are whole: where buckets are narrow, the one above the lower bound is exact.
        return float(max(low * (longest / low) ** part, shorter + 1))

    def tokens_up_to(self, lengths: Array) -> Array:
        """Sum over all counted lengths of min(length, l), for each l of `lengths` (bounds)."""
        counts = np.concatenate([[0.0], np.cumsum(self._counts)])
        sums = np.concatenate([[0.0], np.cumsum(self._sums)])
        upto = np.searchsorted(_BOUNDS, lengths, side="right")
        tokens: Array = sums[upto] + lengths * (counts[-1] - counts[upto])
        return tokens


class TraceTally:
    """The traffic of a trace, added in batches of requests in the order of its lines."""

    def __init__(self) -> None:
        self.prompts = LengthCounts()
        self.outputs = LengthCounts()
        self.finals = LengthCounts()
        self.requests = 0
        self.out_of_order = 0
        """Requests that came earlier than the one on the line before."""
        self._first = math.inf
        self._last = -math.inf
        self._previous = -math.inf

    def add(self, requests: Sequence[TraceRequest]) -> None:
        """Count `requests` (not empty)."""
        prompts = np.asarray([one.prompt_tokens for one in requests], dtype=np.float64)
        outputs = np.asarray([one.output_tokens for one in requests], dtype=np.float64)
        self.prompts.add(prompts)
        self.outputs.add(outputs)
        self.finals.add(prompts + outputs)
        self.requests += len(requests)
        self._add_arrivals(np.asarray([one.arrival for one in requests]))

    def _add_arrivals(self, arrivals: Array) -> None:
        if np.isnan(arrivals[0]):
            return
        before = np.concatenate([[self._previous], arrivals[:-1]])
        self.out_of_order += int(np.count_nonzero(arrivals < before))
        self._previous = float(arrivals[-1])
        self._first = min(self._first, float(arrivals.min()))
        self._last = max(self._last, float(arrivals.max()))

    @property
    def seconds(self) -> float | None:
        """From the first arrival to the last; None where the trace tells no times."""
        return None if math.isinf(self._first) else self._last - self._first

    def traffic(self, seconds: float, max_length: int) -> Traffic | TrafficProblem:
        """The traffic of the counted requests, as if they came within `seconds`."""
        bounds = np.asarray(length_grid(max_length), dtype=np.float64)
        # The last bucket holds everything longer as well.
        ends = np.concatenate([[0.0], bounds[:-1], [LONGEST]])
        tokens = np.diff(self.finals.tokens_up_to(ends) - self.prompts.tokens_up_to(ends))
        return Traffic.from_histograms(
            self.prompts.histogram(seconds),
            self.finals.histogram(seconds),
            max_length,
            decoded=zip(bounds.tolist(), (tokens / seconds).tolist(), strict=True),
            window_seconds=seconds,
        )
