"""The work of a prefill, told by a clock: one sequence that decodes while a prompt is computed.

The clock's tokens come once per step. Steps that also compute a part of the prompt take longer, and
by how much longer they take together is the work of the prompt, however it was cut into chunks and
whatever HTTP, the network and the queue took before. Time to first token would hold all of that.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from cascade_cli.calibration.arrivals import unbunched, usual_step
from cascade_cli.calibration.records import Probe, Stream

PLAIN_STEPS: Final = 20
"""Tokens of the clock before and after a prompt that tell its undisturbed time."""
SETTLE_STEPS: Final = 2
LEAST_STEPS: Final = 6
_MAD_OF_NORMAL: Final = 1.4826
_MEDIAN_ERROR: Final = 1.2533


@dataclass(frozen=True, slots=True)
class PrefillWork:
    """The work of one prompt."""

    name: str
    tokens: int
    cached: int
    ms: float
    error_ms: float
    """Standard error, by the jitter of the clock."""
    chunks: int
    """Steps in which much of it was computed: a last part of less than half a chunk counts not."""


def prefill_work(probe: Probe) -> PrefillWork | None:
    """What a probe tells; None where the clock ran for too short a time beside it, or was disturbed
    by more than the prompt."""
    points = unbunched(probe.clock.points)
    before = [point for point in points if point[0] <= probe.asked][-PLAIN_STEPS:]
    after = [point for point in points if point[0] > probe.answered][SETTLE_STEPS:]
    after = after[:PLAIN_STEPS]
    if min(len(before), len(after)) < LEAST_STEPS:
        return None
    step = float(np.median([*_steps(before), *_steps(after)]))
    starts, ends = _offsets(before, step), _offsets(after, step)
    extra = float(np.median(ends) - np.median(starts))
    if extra <= 0:
        return None
    between = after[0][1] - before[-1][1]
    error = math.hypot(_error(starts), _error(ends), between * _step_error(before, after))
    return PrefillWork(
        name=probe.name,
        tokens=probe.prompt_tokens,
        cached=probe.cached_tokens,
        ms=1000 * extra,
        error_ms=1000 * error,
        chunks=_chunks(
            [before[-1], *(p for p in points if before[-1][0] < p[0] <= after[0][0])], step
        ),
    )


def clock_step_ms(clock: Stream) -> float:
    """Usual time of a step of the clock, ms: most of its steps have no prompt beside them."""
    return 1000 * usual_step(clock.points)


def chunk_tokens(works: Sequence[PrefillWork]) -> int | None:
    """Most tokens of a step, by how many steps prompts took; None where all fitted into one.

    A prompt of L tokens that took n steps is of chunks of L/(n + 1/2) to L/(n - 1/2) tokens; of
    what all prompts allow, a power of two is taken if there is one, as engines are set so.
    """
    cut = [work for work in works if work.chunks >= 2]
    if not cut:
        return None
    low = float(np.median([(w.tokens - w.cached) / (w.chunks + 0.5) for w in _longest(cut)]))
    high = float(np.median([(w.tokens - w.cached) / (w.chunks - 0.5) for w in _longest(cut)]))
    power = 2 ** math.floor(math.log2(high))
    return power if low <= power else max(1, round((low + high) / 2))


def _longest(works: Sequence[PrefillWork]) -> list[PrefillWork]:
    """Those that took most chunks: they tell the size most sharply."""
    most = max(work.chunks for work in works)
    return [work for work in works if work.chunks >= 0.9 * most]


def _steps(points: Sequence[tuple[float, int]]) -> Iterator[float]:
    """Seconds per step over half of the points at a time."""
    half = len(points) // 2
    for (early, first), (late, last) in zip(points, points[half:], strict=False):
        yield (late - early) / (last - first)


def _offsets(points: Sequence[tuple[float, int]], step: float) -> list[float]:
    """When each token would have been the clock's first, at `step` seconds per token."""
    return [time - step * count for time, count in points]


def _error(values: Sequence[float]) -> float:
    spread = np.median(np.abs(np.array(values) - np.median(values)))
    return _MEDIAN_ERROR * _MAD_OF_NORMAL * float(spread) / math.sqrt(len(values))


def _step_error(before: Sequence[tuple[float, int]], after: Sequence[tuple[float, int]]) -> float:
    values = [*_steps(before), *_steps(after)]
    # Overlapping halves: as good as four independent values.
    return _error(values) * math.sqrt(len(values) / 4)


def _chunks(points: Sequence[tuple[float, int]], step: float) -> int:
    """Steps that were longer by more than half of what most long ones were longer by."""
    events = [
        (late - early - step * (last - first), last - first)
        for (early, first), (late, last) in pairwise(points)
    ]
    long = [extra for extra, _ in events if extra > step / 2]
    if not long:
        return 0
    usual = float(np.median(long))
    return sum(min(steps, round(extra / usual)) for extra, steps in events if extra > usual / 2)
