"""The engine model that fits what was measured, how sure it is, and how well it predicts the rest.

Decode steps: t = C0 + C1 B + C2 H(h, cv) S with H = min(1.5, 1 + h cv). For a given h the rest is
linear, so h is searched and the rest solved. Prefill: w(L) = CP L + CQ L^2/2, less what was cached.
Both by robust least squares of relative errors.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from cascade_cli.calibration.decode_steps import DecodeStep
from cascade_cli.calibration.least_squares import (
    Solution,
    robust_weights,
    sigmas,
    solve,
    solve_robustly,
    standard_errors,
    t_quantile,
)
from cascade_cli.calibration.prefill_work import PrefillWork
from cascade_planner.arrays import Array
from cascade_policy.engine_model import MAX_HETEROGENEITY

LEAST_RUNGS: Final = 8
"""Twice the coefficients of a decode step."""
LEAST_PROBES: Final = 6
"""Three for each coefficient of a prefill."""
MOST_OFF: Final = 0.25
"""Median held-out error beyond which the model does not describe the engine."""
LEAST_CV: Final = 0.3
"""Unevenness that some batch must have for a penalty of it to be looked for."""
MOST_HETEROGENEITY: Final = 3.0
_COARSE: Final = 17
_FINE: Final = 1e-3
"""Of the search for h: a hundredth of what any measurement tells."""
_ROUNDS: Final = 3
_GOLDEN: Final = (math.sqrt(5) - 1) / 2

DECODE: Final = ("baseMs", "perSequenceMs", "perKvTokenMs", "heterogeneity")
PREFILL: Final = ("prefillMsPerToken", "prefillMsPerTokenSquared")

Seen = TypeVar("Seen", DecodeStep, PrefillWork)


class CalibrationFailed(Exception):
    """What was measured makes no engine model; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A coefficient with its 95 % interval; an end is infinite where nothing bounds it."""

    value: float
    low: float
    high: float

    @property
    def is_told(self) -> bool:
        """Whether it is known to a half of itself, or known to be nothing much."""
        return self.high < math.inf and (
            self.value == 0 or self.high - self.value <= self.value / 2
        )


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors of predictions for places of the design that were left out of the fit, relative."""

    places: int
    median: float
    greatest: float


@dataclass(frozen=True, slots=True)
class Fit:
    """The time coefficients of an engine, by their wire names."""

    estimates: dict[str, Estimate]
    decode: HeldOut
    prefill: HeldOut
    decode_off: tuple[float, ...]
    """Of each decode step: model over measured, less 1."""
    prefill_off: tuple[float, ...]


def fit(steps: Sequence[DecodeStep], works: Sequence[PrefillWork]) -> Fit:
    """The model of an engine. Raises CalibrationFailed."""
    _check_enough(steps, works)
    found = Fit(
        estimates=estimate(steps, works),
        decode=_held_out(steps, _fit_decode, decode_ms),
        prefill=_held_out(works, _fit_prefill, prefill_ms),
        decode_off=tuple(_fit_decode(steps)[0].residuals.tolist()),
        prefill_off=tuple(_fit_prefill(works)[0].residuals.tolist()),
    )
    _check_sense(found)
    return found


def estimate(steps: Sequence[DecodeStep], works: Sequence[PrefillWork]) -> dict[str, Estimate]:
    """The coefficients with their intervals, by wire name; enough of both is given."""
    decode, decode_weights = _fit_decode(steps)
    prefill, prefill_weights = _fit_prefill(works)
    decode_errors = _decode_errors(steps, decode, decode_weights)
    prefill_errors = _prefill_errors(works, prefill, prefill_weights)
    return {
        **_estimates(DECODE, decode.coefficients, decode_errors, len(steps)),
        **_estimates(PREFILL, prefill.coefficients, prefill_errors, len(works)),
    }


def decode_ms(steps: Sequence[DecodeStep], coefficients: Array) -> Array:
    """Predicted ms of each step; `coefficients` in the order of DECODE."""
    predicted: Array = _decode_features(steps, float(coefficients[3])) @ coefficients[:3]
    return predicted


def prefill_ms(works: Sequence[PrefillWork], coefficients: Array) -> Array:
    """Predicted ms of each prefill; `coefficients` in the order of PREFILL."""
    predicted: Array = _prefill_features(works) @ coefficients
    return predicted


def _fit_decode(steps: Sequence[DecodeStep]) -> tuple[Solution, Array]:
    """(C0, C1, C2, h) and the weights of the steps: weights and h in turn."""
    times, sigma = _times(steps), _sigmas(steps)
    weights, h = sigma**-2, 0.0
    uneven = max(step.cv for step in steps) >= LEAST_CV
    for _ in range(_ROUNDS):
        h = _best_heterogeneity(steps, times, weights) if uneven else 0.0
        solution = solve(_decode_features(steps, h), times, weights)
        weights = robust_weights(solution.residuals, sigma)
    h = h if solution.coefficients[2] > 0 else 0.0
    return Solution(np.append(solution.coefficients, h), solution.residuals), weights


def _best_heterogeneity(steps: Sequence[DecodeStep], times: Array, weights: Array) -> float:
    """The h of the least sum of squares: a coarse search, then a golden one about its best."""

    def left(h: float) -> float:
        residuals = solve(_decode_features(steps, h), times, weights).residuals
        return float(weights @ residuals**2)

    grid = np.linspace(0, math.sqrt(MOST_HETEROGENEITY), _COARSE) ** 2
    place = int(np.argmin([left(float(h)) for h in grid]))
    low, high = float(grid[max(0, place - 1)]), float(grid[min(_COARSE - 1, place + 1)])
    while high - low > _FINE:
        inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, outer) if left(inner) <= left(outer) else (inner, high)
    middle = (low + high) / 2
    return 0.0 if left(0.0) <= left(middle) else middle


def _fit_prefill(works: Sequence[PrefillWork]) -> tuple[Solution, Array]:
    return solve_robustly(_prefill_features(works), _times(works), _sigmas(works))


def _decode_features(steps: Sequence[DecodeStep], h: float) -> Array:
    cv = np.array([step.cv for step in steps])
    penalty = np.minimum(MAX_HETEROGENEITY, 1 + h * cv)
    kv_tokens = np.array([step.kv_tokens for step in steps])
    sequences = np.array([float(step.sequences) for step in steps])
    return np.column_stack([np.ones(len(steps)), sequences, penalty * kv_tokens])


def _prefill_features(works: Sequence[PrefillWork]) -> Array:
    tokens = np.array([float(work.tokens) for work in works])
    cached = np.array([float(work.cached) for work in works])
    return np.column_stack([tokens - cached, (tokens**2 - cached**2) / 2])


def _times(seen: Sequence[DecodeStep] | Sequence[PrefillWork]) -> Array:
    return np.array([one.ms for one in seen])


def _sigmas(seen: Sequence[DecodeStep] | Sequence[PrefillWork]) -> Array:
    return sigmas(np.array([one.error_ms / one.ms for one in seen]))


def _decode_errors(steps: Sequence[DecodeStep], solution: Solution, weights: Array) -> Array:
    h, kv_ms = float(solution.coefficients[3]), float(solution.coefficients[2])
    cv = np.array([step.cv for step in steps])
    kv_tokens = np.array([step.kv_tokens for step in steps])
    # Beyond its cap the penalty does not depend on h.
    by_h = np.where(1 + h * cv < MAX_HETEROGENEITY, kv_ms * cv * kv_tokens, 0.0)
    slopes = np.column_stack([_decode_features(steps, h), by_h]) / _times(steps)[:, None]
    return standard_errors(slopes, solution.residuals, _sigmas(steps), weights)


def _prefill_errors(works: Sequence[PrefillWork], solution: Solution, weights: Array) -> Array:
    slopes = _prefill_features(works) / _times(works)[:, None]
    return standard_errors(slopes, solution.residuals, _sigmas(works), weights)


def _estimates(
    names: Sequence[str], values: Array, errors: Array, rows: int
) -> dict[str, Estimate]:
    reach = t_quantile(rows - len(names)) * errors
    return {
        name: Estimate(float(value), max(0.0, float(value - width)), float(value + width))
        for name, value, width in zip(names, values, reach, strict=True)
    }


def _held_out(
    seen: Sequence[Seen],
    fitted: Callable[[Sequence[Seen]], tuple[Solution, Array]],
    predicted: Callable[[Sequence[Seen], Array], Array],
) -> HeldOut:
    """Each place of the design predicted by a fit to all others, repetitions left out with it."""
    names = sorted({one.name for one in seen})
    off: list[float] = []
    for name in names:
        rest = [one for one in seen if one.name != name]
        held = [one for one in seen if one.name == name]
        ratios = predicted(held, fitted(rest)[0].coefficients) / _times(held)
        off += np.abs(ratios - 1).tolist()
    return HeldOut(len(names), float(np.median(off)), max(off))


def _check_enough(steps: Sequence[DecodeStep], works: Sequence[PrefillWork]) -> None:
    for count, least, what in (
        (len({step.name for step in steps}), LEAST_RUNGS, "batches"),
        (len(works), LEAST_PROBES, "prompts"),
    ):
        if count < least:
            raise CalibrationFailed(
                f"only {count} {what} could be measured, and {least} are needed: give more "
                "--max-seconds or --max-tokens, and look whether others use the engine or its host"
            )


def _check_sense(found: Fit) -> None:
    for held_out, what in ((found.decode, "batch holds"), (found.prefill, "prompt's length is")):
        if held_out.median > MOST_OFF:
            raise CalibrationFailed(
                f"what the {what} does not decide how long the engine takes: predictions are off "
                f"by {100 * held_out.median:.0f} % (median); look for other users of the GPU or "
                "its host, for throttling, and try again"
            )
    for name in ("baseMs", "prefillMsPerToken"):
        if found.estimates[name].value <= 0:
            raise CalibrationFailed(
                f"{name} would be 0, which cannot be: the times were too noisy; give more "
                "--max-seconds, or a quieter engine and host"
            )


def uncertain(estimates: dict[str, Estimate]) -> Iterable[str]:
    """Names of coefficients that the measurement hardly tells."""
    return (name for name, estimate in estimates.items() if not estimate.is_told)
