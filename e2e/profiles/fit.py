"""Fits the engine model's coefficients to the times of steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from cascade_policy.engine_model import EngineModel
from e2e.profiles.steps import Kind, Step

SIGNIFICANT_DIGITS: Final = 3
"""Of a coefficient: more than its error allows, few enough to be the same on every machine."""
FITTED: Final = (Kind.DECODE, Kind.FULL)
"""Prompts queue when a pool is busy, and then fill the chunks; steps with a part of one are
looked at, not fitted."""

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a model is off, as shares of the steps' times."""

    steps: int
    median: float
    largest: float


def fit(steps: Sequence[Step], limits: EngineModel) -> EngineModel:
    """`limits` with the five time coefficients that fit `steps` best; none is below 0.

    Least squares of the relative errors, in which decode steps and full chunks weigh the same.
    """
    fitted = [step for step in steps if step.kind in FITTED]
    times = np.array([step.ms for step in fitted])
    kinds = [step.kind for step in fitted]
    weights = np.array([kinds.count(kind) for kind in kinds]) ** -0.5 / times
    coefficients, _ = nnls(_features(fitted) * weights[:, None], times * weights)
    base, sequence, kv_token, token, token_squared = map(_rounded, coefficients)
    return replace(
        limits,
        base_ms=base,
        per_sequence_ms=sequence,
        per_kv_token_ms=kv_token,
        prefill_ms_per_token=token,
        prefill_ms_per_token_squared=token_squared,
    )


def errors(steps: Sequence[Step], kind: Kind, model: EngineModel) -> Errors:
    """Of `model` over the steps of one kind."""
    off = [abs(_model_ms(step, model) / step.ms - 1) for step in steps if step.kind is kind]
    return Errors(len(off), float(np.median(off)), max(off))


def _features(steps: Sequence[Step]) -> Array:
    """What the coefficients C0, C1, C2, CP and CQ stand before, a row for each step."""
    return np.array(
        [
            (
                1.0,
                step.sequences,
                step.kv_tokens,
                step.prompt_tokens,
                step.prompt_tokens * (step.prefix + step.prompt_tokens / 2),
            )
            for step in steps
        ]
    )


def _model_ms(step: Step, model: EngineModel) -> float:
    return model.decode_ms(step.sequences, step.kv_tokens) + model.prefill_ms(
        step.prefix + step.prompt_tokens, step.prefix
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{SIGNIFICANT_DIGITS - 1}e}")
