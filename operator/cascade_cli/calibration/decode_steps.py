"""The time of a decode step, from the arrivals of streamed tokens.

All sequences of a batch get a token per step, so one watched stream tells the steps of all. Single
arrivals tell little: the client's own machine is late now and then. A late arrival makes one block
of steps longer and the next one shorter, and a stall makes one block longer, so the median over
blocks sees neither.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_cli.calibration.arrivals import blocks, unbunched
from cascade_cli.calibration.records import Rung, Stream

SETTLE_STEPS: Final = 2
"""Steps after the last prompt was computed that are left out: their events may have waited."""
LEAST_BLOCKS: Final = 3
MOST_SLIP: Final = 4
"""Steps by which watched streams may differ over a rung; more, and the batch was not one."""
_MAD_OF_NORMAL: Final = 1.4826
_MEDIAN_ERROR: Final = 1.2533
"""Standard error of a median of normal values, in those of their mean: sqrt(pi/2)."""


@dataclass(frozen=True, slots=True)
class DecodeStep:
    """The steps of one rung."""

    name: str
    sequences: int
    kv_tokens: float
    """Tokens that the sequences hold together, in the middle of the rung."""
    cv: float
    """Coefficient of variation of their lengths."""
    ms: float
    """Median time of a step."""
    error_ms: float
    """Standard error of it, by the spread of its blocks."""
    mean_ms: float
    """Of all steps, stalls included."""


def decode_step(rung: Rung) -> DecodeStep | None:
    """What a rung tells; None where it holds too little, or its streams kept no common step."""
    watched = [stream for stream in rung.streams if stream.is_watched]
    start = max(rung.start, *(stream.first for stream in rung.streams))
    each = [list(_blocks(stream, start, rung.end)) for stream in watched]
    if not each or min(map(len, each)) < LEAST_BLOCKS or _slip(watched, start, rung.end):
        return None
    values = np.array([ms for blocks in each for ms, _ in blocks])
    weights = np.array([steps for blocks in each for _, steps in blocks])
    median = float(np.median(values))
    spread = _MAD_OF_NORMAL * float(np.median(np.abs(values - median)))
    # Streams share what delays the engine or this machine: a further one is no further evidence.
    error = _MEDIAN_ERROR * spread / math.sqrt(len(values) / len(watched))
    lengths = np.array(list(_lengths(rung, start)))
    return DecodeStep(
        name=rung.name,
        sequences=len(rung.streams),
        kv_tokens=float(lengths.sum()),
        cv=float(lengths.std() / lengths.mean()),
        ms=median,
        error_ms=error,
        mean_ms=float(np.average(values, weights=weights)),
    )


def _blocks(stream: Stream, start: float, end: float) -> Iterator[tuple[float, int]]:
    """(ms of a step, steps) of the blocks of a stream within a rung."""
    settled = stream.tokens_at(start) + SETTLE_STEPS
    points = [(time, count) for time, count in stream.points if time <= end and count >= settled]
    return ((1000 * step, steps) for step, steps in blocks(unbunched(points)))


def _slip(watched: Sequence[Stream], start: float, end: float) -> bool:
    made = [stream.tokens_at(end) - stream.tokens_at(start) for stream in watched]
    return max(made) - min(made) > MOST_SLIP


def _lengths(rung: Rung, start: float) -> Iterator[float]:
    """Tokens of each sequence in the middle of the rung; of those not watched, by the first one's
    steps since their first token."""
    pace = rung.streams[0]
    steps = pace.tokens_at(rung.end) - pace.tokens_at(start)
    for stream in rung.streams:
        if stream.is_watched:
            made = stream.tokens_at(start)
        else:
            made = stream.counts[0] + pace.tokens_at(start) - pace.tokens_at(stream.first)
        yield stream.prompt_tokens + made + (steps - 1) / 2
