"""What a batch will cost, as the scheduler believes: time fitted to a profile, memory counted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_simulator.static_batching.engine import BatchEngine

Floats = NDArray[np.float64]
Bilinear = tuple[float, float, float, float]
"""Factors of N*l, N, l and 1, with N sequences of (padded) length l; the value is in ms."""
Points = Sequence[tuple[int, int]]
"""(sequences, length) of profiled batches."""

PROFILE_BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128)
PROFILE_LENGTHS: Final = (32, 128, 256, 512, 1024, 1536, 2048)


@dataclass(frozen=True, slots=True)
class TimeEstimator:
    """Serving time of a static batch by two bilinear forms (arXiv 2406.13511)."""

    prefill: Bilinear
    decode: Bilinear
    """One decode step at length l."""

    def prefill_ms(self, sequences: float, length: float) -> float:
        """Estimated prefill of `sequences` prompts padded to `length`."""
        return _value(self.prefill, sequences, length)

    def decode_ms(self, sequences: float, length: float) -> float:
        """Estimated decode step of `sequences`, each `length` long."""
        return _value(self.decode, sequences, length)

    def serve_ms(self, sequences: float, length: float, steps: int) -> float:
        """Prefill and decode steps at the lengths `length` + 1 ... `length` + `steps`, in closed
        form: a form that is linear in the length needs its mean alone."""
        mean_length = length + (steps + 1) / 2
        return self.prefill_ms(sequences, length) + steps * self.decode_ms(sequences, mean_length)


@dataclass(frozen=True, slots=True)
class MemoryEstimator:
    """Batches that cannot run out of memory, whatever their answers."""

    kv_capacity_tokens: int
    usable: float = 0.9
    """zeta: the share of the memory that is planned with."""

    def largest_batch(self, length: int, steps: int) -> int:
        """Most sequences of padded length `length` that may grow by `steps` tokens: the greatest N
        with N (length + steps) KV tokens in the usable memory, but at least 1."""
        return max(1, int(self.usable * self.kv_capacity_tokens) // (length + steps))


@dataclass(frozen=True, slots=True)
class EstimateErrors:
    """Mean relative errors on batches that the fit has not seen."""

    prefill: float
    decode: float
    serve: float


def fit(engine: BatchEngine, points: Points) -> TimeEstimator:
    """Least squares over a profile of `engine` at `points`; at least 4 that span both axes."""
    features = np.array([(n * length, n, length, 1.0) for n, length in points])
    return TimeEstimator(
        prefill=_least_squares(features, [engine.prefill_ms(n, length) for n, length in points]),
        decode=_least_squares(features, [engine.decode_ms(n, length) for n, length in points]),
    )


def errors(
    estimator: TimeEstimator, engine: BatchEngine, points: Points, steps: int
) -> EstimateErrors:
    """Compare with the engine at `points`, served for `steps` tokens."""
    return EstimateErrors(
        prefill=_relative_error(
            [estimator.prefill_ms(n, length) for n, length in points],
            [engine.prefill_ms(n, length) for n, length in points],
        ),
        decode=_relative_error(
            [estimator.decode_ms(n, length) for n, length in points],
            [engine.decode_ms(n, length) for n, length in points],
        ),
        serve=_relative_error(
            [estimator.serve_ms(n, length, steps) for n, length in points],
            [engine.serve_ms(n, length, steps) for n, length in points],
        ),
    )


def grid(engine: BatchEngine, batches: Sequence[int], lengths: Sequence[int]) -> Points:
    """The pairs of `batches` and `lengths` that fit into the engine's memory."""
    fits = engine.kv_capacity_tokens
    return [(n, length) for n in batches for length in lengths if n * length <= fits]


def profiled(engine: BatchEngine) -> TimeEstimator:
    """The estimator from a profile over PROFILE_BATCHES and PROFILE_LENGTHS."""
    return fit(engine, grid(engine, PROFILE_BATCHES, PROFILE_LENGTHS))


def _value(form: Bilinear, sequences: float, length: float) -> float:
    both, per_sequence, per_token, constant = form
    return both * sequences * length + per_sequence * sequences + per_token * length + constant


def _least_squares(features: Floats, times: Sequence[float]) -> Bilinear:
    both, per_sequence, per_token, constant = np.linalg.lstsq(features, np.array(times))[0]
    return float(both), float(per_sequence), float(per_token), float(constant)


def _relative_error(estimates: Sequence[float], times: Sequence[float]) -> float:
    return float(np.mean(np.abs(np.array(estimates) / np.array(times) - 1)))
