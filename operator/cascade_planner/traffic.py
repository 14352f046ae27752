"""Traffic: what arrives, decodes and crosses at every length, from two length histograms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from cascade_planner.arrays import Array
from cascade_planner.histogram import MAX_RATE, SHORTEST_LENGTH, LengthHistogram, log_uniform_moment
from cascade_planner.prefill_work import PrefillShares, PrefillWork
from cascade_planner.problems import (
    MIN_REQUESTS,
    find_histogram_problem,
    find_length_problem,
    find_rate_problem,
    find_reading_problem,
    find_shrinking,
)
from cascade_planner.problems import ProblemReason as ProblemReason
from cascade_planner.problems import TrafficProblem as TrafficProblem
from cascade_policy.engine_model import EngineModel
from cascade_policy.grid import length_grid

DECODE_TOLERANCE: Final = 4.0
"""Factor by which counted and derived decode tokens may differ: lengths inside a bucket explain
up to about 1.5, a sudden change of traffic more; beyond it the counter is of something else."""


@dataclass(frozen=True, slots=True)
class TrafficSummary:
    """The traffic in a few numbers; lengths in tokens."""

    requests_per_second: float
    requests: float
    """Requests within the observed window."""
    prompt_mean: float
    prompt_p50: float
    prompt_p95: float
    final_p50: float
    final_p95: float
    output_mean: float


@dataclass(frozen=True, eq=False, slots=True)
class Load:
    """What a range of lengths has to do, per second; all arrays have one shape."""

    arrivals: Array
    prompts: Array
    """Prompt tokens."""
    prefill: tuple[Array, Array]
    """Sums over arrivals of prompt length to the 1 and 2, less what is cached: w(L) needs these."""
    prefill_squared: tuple[Array, Array, Array]
    """Sums of prompt length to the 2, 3 and 4, less what is cached: w(L)^2 needs these."""
    decoded: tuple[Array, Array, Array]
    """Sums over decoded tokens of sequence length to the 0, 1 and 2."""


@dataclass(frozen=True, eq=False)
class Traffic:
    """Length distributions of one service, cleaned, from which every rate follows.

    `bounds` are the length grid with its lower end in front; `prompts_above[i]` and
    `finals_above[i]` are the requests per second whose prompt, or whose whole sequence, is longer
    than bounds[i]. A request emits one token at each length in (prompt, final], so their
    difference is both the rate of tokens decoded at that length and the rate of sequences that
    grow past it; it is never negative. `decoded[i]` is the tokens per second decoded at lengths
    from bounds[i] to bounds[i+1]. Inside a bucket, prompts are log-uniform and tokens uniform.
    `prefill` says, per bucket, which share of its prompts' work is done rather than cached.
    """

    max_length: int
    bounds: Array
    prompts_above: Array
    finals_above: Array
    decoded: Array
    window_seconds: float
    prefill: PrefillShares

    @classmethod
    def from_histograms(
        cls,
        prompt: LengthHistogram,
        final: LengthHistogram,
        max_length: int,
        *,
        decoded: Iterable[tuple[float | str, float | str]] = (),
        window_seconds: float = 600.0,
        age_seconds: float = 0.0,
        min_requests: float = MIN_REQUESTS,
    ) -> "Traffic | TrafficProblem":
        """Traffic from the rates of prompt and final lengths, or why there is none.

        `decoded` are (le_length, tokens per second) of the decode counter, not cumulative. They
        are exact where the histograms only bound: when many prompts end just below a bound (a
        system's context limit, say), the histograms alone overstate decoding in that bucket many
        times over. Without them, or when they contradict the histograms, the histograms decide.
        `window_seconds` is the range of the rates, `age_seconds` the age of the newest sample.
        Raises ValueError when `max_length` is below 1.
        """
        series = {"prompt": prompt, "final": final}
        problem = find_reading_problem(
            series, window_seconds, age_seconds
        ) or find_histogram_problem(series, max_length)
        if problem is not None:
            return problem
        grid = np.asarray(length_grid(max_length), dtype=np.float64)
        prompts, finals = prompt.cumulative_at(grid), final.cumulative_at(grid)
        rates = {"prompt": float(prompts[-1]), "final": float(finals[-1])}
        problem = find_rate_problem(rates, window_seconds, min_requests) or find_shrinking(
            prompts, finals
        )
        return problem or cls._of(prompts, finals, grid, decoded, window_seconds)

    @classmethod
    def _of(
        cls,
        prompts: Array,
        finals: Array,
        grid: Array,
        decoded: Iterable[tuple[float | str, float | str]],
        window_seconds: float,
    ) -> "Traffic":
        """Traffic of cumulative rates on the grid, of which no problem is known."""
        rate = prompts[-1]
        prompts_above = rate - prompts
        # The two totals differ a little when a scrape falls between two observations.
        finals_above = np.maximum(rate * (1 - finals / finals[-1]), prompts_above)
        max_length = int(grid[-1])
        bounds = np.concatenate([[min(SHORTEST_LENGTH, max_length / 2)], grid])
        prompts_above = np.concatenate([[rate], prompts_above])
        finals_above = np.concatenate([[rate], finals_above])
        derived = _decoded_between(bounds, finals_above - prompts_above)
        return cls(
            max_length=max_length,
            bounds=bounds,
            prompts_above=prompts_above,
            finals_above=finals_above,
            decoded=_counted_or_derived(decoded, derived, grid),
            window_seconds=window_seconds,
            prefill=PrefillShares.whole(len(grid)),
        )

    @classmethod
    def from_lengths(
        cls,
        prompts: Sequence[float] | Array,
        finals: Sequence[float] | Array,
        seconds: float,
        max_length: int,
        *,
        counts: Array | None = None,
        min_requests: float = MIN_REQUESTS,
    ) -> "Traffic | TrafficProblem":
        """Traffic of a trace: prompt and final lengths of its requests (tokens), seen in `seconds`.

        The same information that the metrics of a service carry, decode counter included. Each
        request counts once, or `counts` times.
        """
        start = np.asarray(prompts, dtype=np.float64)
        end = np.asarray(finals, dtype=np.float64)
        problem = find_length_problem(start, end, seconds)
        if problem is not None:
            return problem
        return cls.from_histograms(
            LengthHistogram.of_lengths(start, seconds, max_length, counts),
            LengthHistogram.of_lengths(end, seconds, max_length, counts),
            max_length,
            decoded=_count_decoded(
                start, end, 1.0 if counts is None else counts, max_length, seconds
            ),
            window_seconds=seconds,
            min_requests=min_requests,
        )

    def with_prefill_work(self, measured: Iterable[PrefillWork], engine: EngineModel) -> "Traffic":
        """The same traffic with the prefill that its prompts took, counted with `engine`.

        Without it every prompt is planned as if prefilled whole, which overstates a workload with
        cached prefixes, and most where its prompts are long.
        """
        return replace(self, prefill=PrefillShares.of(measured, self.bounds, engine))

    @property
    def requests_per_second(self) -> float:
        """Arrival rate."""
        return float(self.prompts_above[0])

    def crossings_at(self, lengths: Sequence[int]) -> Array:
        """Sequences per second that grow past each of `lengths`."""
        at = np.log(np.maximum(np.asarray(lengths, dtype=np.float64), self.bounds[0]))
        xs = np.log(self.bounds)
        above = np.interp(at, xs, self.finals_above) - np.interp(at, xs, self.prompts_above)
        crossings: Array = np.maximum(above, 0.0)
        return crossings

    def load_up_to(self, lengths: Sequence[int]) -> Load:
        """Load of everything up to each of `lengths` (ascending, the first may be 0).

        A range's load is the difference of two entries. Exact for any cut, on the grid or not.
        """
        cuts = np.minimum(np.asarray(lengths, dtype=np.float64), self.max_length)
        edges = np.union1d(self.bounds, cuts[cuts > self.bounds[0]])
        xs = np.log(self.bounds)
        prompts = np.interp(np.log(edges), xs, self.prompts_above)
        low, high = edges[:-1], edges[1:]
        arrivals = np.maximum(prompts[:-1] - prompts[1:], 0.0)
        bucket = np.searchsorted(self.bounds, low, side="right") - 1
        decoded = self.decoded[bucket] * (high - low) / np.diff(self.bounds)[bucket]
        upto = np.searchsorted(edges, np.maximum(cuts, self.bounds[0]))

        def running(per_bucket: Array) -> Array:
            sums: Array = np.concatenate([[0.0], np.cumsum(per_bucket)])[upto]
            return sums

        moments = [arrivals * log_uniform_moment(low, high, power) for power in (1, 2, 3, 4)]
        work, square = self.prefill.of_work[bucket], self.prefill.of_square[bucket]

        def decode_moment(power: int) -> Array:
            mean = (high ** (power + 1) - low ** (power + 1)) / ((power + 1) * (high - low))
            return running(decoded * mean)

        return Load(
            arrivals=running(arrivals),
            prompts=running(moments[0]),
            prefill=(running(moments[0] * work), running(moments[1] * work)),
            prefill_squared=(
                running(moments[1] * square),
                running(moments[2] * square),
                running(moments[3] * square),
            ),
            decoded=(decode_moment(0), decode_moment(1), decode_moment(2)),
        )

    @cached_property
    def output_mean(self) -> float:
        """Mean output of a request, tokens."""
        load = self.load_up_to((self.max_length,))
        return float(load.decoded[0][-1]) / self.requests_per_second

    @cached_property
    def expected_remaining(self) -> tuple[tuple[int, float], ...]:
        """(length, tokens): mean output still to come of a sequence of up to that length.

        Sequences of equal length are taken to end at one common rate per token, (endings)/(tokens)
        of the bucket, whatever their prompt was: the one assumption under which the two
        histograms say it all, and under which the mean output of all requests comes out right.
        One imagined request of mean output keeps thin buckets from extremes.
        """
        low, high = self.bounds[:-1], self.bounds[1:]
        tokens = self.decoded * self.window_seconds
        endings = (self.finals_above[:-1] - self.finals_above[1:]) * self.window_seconds
        ending_rate = (endings + 1) / (tokens + max(self.output_mean, 1.0))
        remaining = [0.0]
        for width, rate in zip((high - low)[::-1], ending_rate[::-1], strict=True):
            survive = float(np.exp(-rate * width))
            remaining.append((1 - survive) / float(rate) + survive * remaining[-1])
        remaining.reverse()
        return tuple(
            (int(bound), max(1.0, (remaining[i] + remaining[i + 1]) / 2))
            for i, bound in enumerate(high)
        )

    @cached_property
    def summary(self) -> TrafficSummary:
        """The traffic in a few numbers, for status and for people."""
        load = self.load_up_to((self.max_length,))
        return TrafficSummary(
            requests_per_second=self.requests_per_second,
            requests=self.requests_per_second * self.window_seconds,
            prompt_mean=float(load.prompts[-1]) / self.requests_per_second,
            prompt_p50=self._quantile(self.prompts_above, 0.50),
            prompt_p95=self._quantile(self.prompts_above, 0.95),
            final_p50=self._quantile(self.finals_above, 0.50),
            final_p95=self._quantile(self.finals_above, 0.95),
            output_mean=self.output_mean,
        )

    def _quantile(self, above: Array, share: float) -> float:
        below = 1 - above / above[0]
        return float(np.exp(np.interp(share, below, np.log(self.bounds))))


def _count_decoded(
    prompts: Array, finals: Array, counts: Array | float, max_length: int, seconds: float
) -> list[tuple[float | str, float | str]]:
    """What the decode counter would count: (le_length, tokens per second) on the grid."""
    counted: list[tuple[float | str, float | str]] = []
    low = 0.0
    for bound in length_grid(max_length):
        top = np.inf if bound == max_length else bound
        tokens = np.maximum(np.minimum(finals, top) - np.maximum(prompts, low), 0.0) * counts
        counted.append((bound, float(tokens.sum()) / seconds))
        low = bound
    return counted


def _decoded_between(bounds: Array, alive: Array) -> Array:
    """Tokens per second of each bucket: integral of alive(l), linear in log l, by parts."""
    low, high = bounds[:-1], bounds[1:]
    ends = high * alive[1:] - low * alive[:-1]
    within = (alive[:-1] - alive[1:]) * log_uniform_moment(low, high, 1)
    return np.maximum(ends + within, 0.0)


def _counted_or_derived(
    counted: Iterable[tuple[float | str, float | str]], derived: Array, grid: Array
) -> Array:
    """The counter's tokens per bucket, if it can be believed, else the derived ones."""
    tokens = np.zeros_like(derived)
    for bound, rate in LengthHistogram.of(counted).buckets:
        if not (bound > 0 and 0 <= rate <= MAX_RATE):
            return derived
        tokens[min(int(np.searchsorted(grid, bound)), len(grid) - 1)] += rate
    total, expected = float(tokens.sum()), float(derived.sum())
    believable = expected / DECODE_TOLERANCE <= total <= expected * DECODE_TOLERANCE
    return tokens if total > 0 and believable else derived
