"""Calibration: the engine model's coefficients from the moments of measured step times.

Least squares of t = C0 + C1*B + C2*S + CP*P with the profile as prior: each coefficient is taken
to be the profile's within PRIOR_SPREAD, and what the steps say is weighed against that by how
precisely they say it. Much varied load and the profile no longer counts; what did not vary, or
varied only together with something else, stays the profile's, and is reported so.

What the moments cannot tell:

- CQ: t holds the attention of prompt tokens to their prefix, P does not say how long that is. The
  slope over P is CP + CQ * prefix; a GPU that is faster or slower than the profile's is so in both,
  hence both are scaled by one factor.
- Heterogeneity: the slope over S is C2*H with the mean H of the steps. The profile's heterogeneity
  stays, and C2 is the slope divided by the H that the lengths are known to have.

Both are given in a StepMix; left at its defaults, C2 and CP contain the average H and prefix.

Averages over windows do not bias a fit of a linear model, if B, S, P and t are averaged over the
same steps, each counted once. These do:

- B or S taken at the ends of a window, or P estimated (a prefix hit that nobody reported): an error
  in a regressor flattens its slope, and the base takes up the rest. Windows over which the batch
  hardly changes keep that small.
- H and prefix that grow with B, S or P, as only their averages are taken out. Steps of a simulated
  engine with heterogeneity 0.5 have a mean H of 1.38 and a slope over S of 1.58 C2: 14 % too
  much is left in C2, and most of it is missing in C1.
- Weight products are flat over few tokens and rise over many: the fit is a line through the loads
  that were seen. Do not trust it far beyond them.

The errors given here are of independent observations, all equally noisy. Windows that follow each
other closely hold the same sequences, and their errors are larger by the square root of how many
windows a sequence lives through; where long steps are noisier than short ones, a 95 % interval
holds the truth in about 87 % of cases.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_planner.arrays import Array
from cascade_planner.moments import StepMoments
from cascade_planner.step_regression import Belief, Posterior, Regression, infer, varied
from cascade_policy.engine_model import EngineModel

OTHER_UNIT: Final = 300.0
"""Factor from the profile's step beyond which times are of another unit: no GPU is so different."""
MIN_OBSERVATIONS: Final = 50
"""Ten for each coefficient and one for the noise: below that, the noise itself is a guess."""
PRIOR_SPREAD: Final = 0.5
"""Standard deviation of a coefficient about the profile's: another engine version, clock or
quantisation is worth up to a factor of about two."""
MEASURED: Final = 0.75
"""Share of the prior variance that observations must remove for a coefficient to count as
measured: its error is then at most half of the profile's."""
VARIED: Final = 2.0
"""Standard errors, at the prior's width, that the spread of B, S or P must be worth: below 1 the
steps say less about its slope than the profile."""
MAX_RESIDUAL: Final = 0.25
"""Share of a step that may be left unexplained."""
SIGNIFICANT: Final = 2.0
"""Standard errors below 0 from which a negative coefficient is no accident."""

_WIRE: Final = ("baseMs", "perSequenceMs", "perKvTokenMs", "prefillMsPerToken")
_WHAT: Final = ("step", "running sequence", "KV token", "prompt token")


class CalibrationReason(StrEnum):
    """Why step times give no engine model."""

    MALFORMED_MOMENTS = "MalformedMoments"
    TOO_FEW_OBSERVATIONS = "TooFewObservations"
    LOAD_UNVARIED = "LoadUnvaried"
    RESIDUAL_TOO_LARGE = "ResidualTooLarge"
    NEGATIVE_COEFFICIENT = "NegativeCoefficient"


class FallbackReason(StrEnum):
    """Why a coefficient stays (mostly) the profile's."""

    SEQUENCES_UNVARIED = "SequencesUnvaried"
    KV_UNVARIED = "KvUnvaried"
    PREFILL_UNVARIED = "PrefillUnvaried"
    VARIED_TOGETHER = "VariedTogether"


@dataclass(frozen=True, slots=True)
class CalibrationProblem:
    """No engine model can be fitted; `message` says why and what to do."""

    reason: CalibrationReason
    message: str


@dataclass(frozen=True, slots=True)
class Fallback:
    """A coefficient that the steps did not tell; `message` says why and what would."""

    coefficient: str
    """Its wire name."""
    reason: FallbackReason
    message: str


@dataclass(frozen=True, slots=True)
class StepMix:
    """What is known of the steps beside their moments; the defaults claim nothing."""

    prefix_tokens: float = 0.0
    """Mean number of tokens before a computed prompt token: sum L^2 / (2 sum L) over prompts."""
    penalty: float = 1.0
    """Mean H of the decode batches."""


NOTHING_KNOWN: Final = StepMix()


@dataclass(frozen=True, slots=True)
class Estimate:
    """A coefficient, in its own unit."""

    value: float
    prior: float
    error: float
    """Standard error, the prior's spread included."""
    measured: float
    """Share of the prior variance that the steps removed: 0 = the profile's word, 1 = theirs."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the probability."""
        return max(0.0, self.value - 1.96 * self.error), self.value + 1.96 * self.error


@dataclass(frozen=True, slots=True)
class Calibration:
    """An engine model fitted to step times, and how far to trust it."""

    engine: EngineModel
    estimates: dict[str, Estimate]
    """C0, C1, C2 and CP by wire name."""
    fallbacks: tuple[Fallback, ...]
    observations: float
    residual_ms: float
    """Root mean square of what is left unexplained, per observation."""
    r_squared: float
    """Share of the variance of t that is explained; small when little varied."""


def calibrate(
    moments: StepMoments, prior: EngineModel, mix: StepMix = NOTHING_KNOWN
) -> Calibration | CalibrationProblem:
    """`prior` with the coefficients that the steps tell; its limits and heterogeneity stay."""
    problem = _find_moment_problem(moments) or _find_unit_problem(moments, prior)
    if problem is not None:
        return problem
    seen = Regression.of(moments.centred())
    belief = Belief.about(_slopes_of(prior, mix), PRIOR_SPREAD, seen)
    enough = varied(seen, belief, VARIED)
    if not enough.any():
        return _unvaried(seen)
    posterior = infer(seen, belief)
    problem = _find_contradiction(seen, posterior)
    if problem is not None:
        return problem
    engine = _engine_of(posterior.slopes, prior, mix)
    left = seen.squared_residuals(posterior.slopes)
    measured = 1 - (posterior.errors / belief.spread) ** 2
    return Calibration(
        engine=engine,
        estimates=_estimates(engine, prior, posterior, measured),
        fallbacks=tuple(_fallbacks(measured, enough)),
        observations=seen.count,
        residual_ms=math.sqrt(left / seen.count),
        r_squared=max(0.0, 1 - left / seen.variation) if seen.variation > 0 else 0.0,
    )


def _slopes_of(engine: EngineModel, mix: StepMix) -> Array:
    """Slopes of t over 1, B, S and P in steps of this mix."""
    return np.array(
        [
            engine.base_ms,
            engine.per_sequence_ms,
            engine.per_kv_token_ms * mix.penalty,
            engine.prefill_ms_per_token + engine.prefill_ms_per_token_squared * mix.prefix_tokens,
        ]
    )


def _engine_of(slopes: Array, prior: EngineModel, mix: StepMix) -> EngineModel:
    """The engine whose steps of this mix have these slopes; CQ keeps its ratio to CP."""
    base, sequence, kv_token, prefill = map(float, slopes)
    factor = prefill / float(_slopes_of(prior, mix)[3])
    return replace(
        prior,
        base_ms=base,
        per_sequence_ms=sequence,
        per_kv_token_ms=kv_token / mix.penalty,
        prefill_ms_per_token=prior.prefill_ms_per_token * factor,
        prefill_ms_per_token_squared=prior.prefill_ms_per_token_squared * factor,
    )


def _estimates(
    engine: EngineModel, prior: EngineModel, posterior: Posterior, measured: Array
) -> dict[str, Estimate]:
    fitted, profile = engine.to_json(), prior.to_json()
    found = {}
    for index, wire in enumerate(_WIRE):
        slope = posterior.slopes[index]
        # A coefficient is its slope without average H or prefix, and so is its error.
        unit = fitted[wire] / slope if slope > 0 else 1.0
        error = float(posterior.errors[index] * unit)
        found[wire] = Estimate(fitted[wire], profile[wire], error, float(measured[index]))
    return found


def _find_moment_problem(moments: StepMoments) -> CalibrationProblem | None:
    if not moments.are_possible:
        return CalibrationProblem(
            CalibrationReason.MALFORMED_MOMENTS,
            "the moments of the step times contradict each other, so they are not of one set of "
            "steps: read all of them over the same window and the same instances",
        )
    if moments.count < MIN_OBSERVATIONS:
        return CalibrationProblem(
            CalibrationReason.TOO_FEW_OBSERVATIONS,
            f"{moments.count:.0f} observations of step times, and {MIN_OBSERVATIONS} are needed: "
            "use a longer window, or wait for more traffic",
        )
    return None


def _find_unit_problem(moments: StepMoments, prior: EngineModel) -> CalibrationProblem | None:
    """Seconds or microseconds would fit as well as ms do, and swamp any prior."""
    seen = moments.t / moments.count
    expected = prior.decode_ms(moments.b / moments.count, moments.s / moments.count)
    expected += prior.prefill_ms_per_token * moments.p / moments.count
    if 1 / OTHER_UNIT < seen / expected < OTHER_UNIT:
        return None
    return CalibrationProblem(
        CalibrationReason.MALFORMED_MOMENTS,
        f"a step lasts {seen:.2g} ms on average, where the profile expects {expected:.2g} ms: give "
        "the times in ms per step, or the profile of a similar engine",
    )


def _unvaried(seen: Regression) -> CalibrationProblem:
    _, sequences, kv_tokens, prefill = seen.row
    return CalibrationProblem(
        CalibrationReason.LOAD_UNVARIED,
        f"all {seen.count:.0f} observations are of nearly the same load ({sequences:.3g} "
        f"sequences, {kv_tokens:.3g} KV tokens, {prefill:.3g} prompt tokens per step): observe "
        "quiet and busy hours, or vary the load by hand",
    )


def _find_contradiction(seen: Regression, posterior: Posterior) -> CalibrationProblem | None:
    """What no engine model explains."""
    residual = math.sqrt(seen.squared_residuals(posterior.slopes) / seen.count)
    if residual > MAX_RESIDUAL * seen.mean_ms:
        return CalibrationProblem(
            CalibrationReason.RESIDUAL_TOO_LARGE,
            f"steps of {seen.mean_ms:.3g} ms are off the fitted line by {residual:.2g} ms: what "
            "the batch holds does not decide how long a step takes; look for other users of the "
            "GPU or its host, for throttling, and for instances of different kinds in one window",
        )
    for index, what in enumerate(_WHAT):
        slope, error = posterior.free[index], posterior.errors[index]
        must_be_above_0 = _WIRE[index] in ("baseMs", "prefillMsPerToken")
        impossible = must_be_above_0 and posterior.slopes[index] <= 0
        if impossible or slope < -SIGNIFICANT * error:
            return CalibrationProblem(
                CalibrationReason.NEGATIVE_COEFFICIENT,
                f"{_WIRE[index]} would be {slope:.2g} ms per {what} (+- {error:.1g}), which cannot "
                "be: something that is not counted slows the steps with few of them; look for "
                "other users of the GPU, and for instances of different kinds in one window",
            )
    return None


_UNVARIED: Final = (
    (FallbackReason.SEQUENCES_UNVARIED, "the number of running sequences hardly varied"),
    (FallbackReason.KV_UNVARIED, "the number of KV tokens hardly varied"),
    (FallbackReason.PREFILL_UNVARIED, "the number of prompt tokens per step hardly varied"),
)


def _fallbacks(measured: Array, enough: NDArray[np.bool_]) -> Iterator[Fallback]:
    for index, wire in enumerate(_WIRE):
        if measured[index] >= MEASURED:
            continue
        if index > 0 and not enough[index - 1]:
            reason, why = _UNVARIED[index - 1]
            remedy = "observe more varied load to measure it"
        else:
            reason = FallbackReason.VARIED_TOGETHER
            why = "the steps tell it only in sum with other coefficients"
            remedy = "observe short and long sequences, in small and in large batches"
        yield Fallback(wire, reason, f"{wire} stays near the profile's: {why}; {remedy}")
