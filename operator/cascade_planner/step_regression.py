"""Bayesian linear regression of step times over 1, B, S and P, from moments alone.

Arrays of shape (4,) are in that order: base, sequences, KV tokens, prompt tokens.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_planner.arrays import Array
from cascade_planner.moments import CentredMoments

MODEL_ERROR: Final = 0.02
"""Share of a step that no straight line explains: the median error of the profiles' own fits. No
number of observations makes a fit more certain than if each were off by it."""
COLLINEAR: Final = 1e-9
"""Share of the variation of columns below which a combination of them counts as constant."""
_SMALLEST_SPREAD: Final = 1e-12
_SMALLEST_MEAN: Final = 1e-6
"""Of a column: what comes once in a million steps tells nothing."""


@dataclass(frozen=True, eq=False, slots=True)
class Regression:
    """Normal equations about the means."""

    count: float
    row: Array
    """Mean of each column: 1, B, S, P."""
    mean_ms: float
    gram: Array
    """Sums of products of the centred columns, shape (4, 4); zeros for the constant."""
    cross: Array
    """Sums of products of the centred columns with t."""
    variation: float
    """Sum of squares of the centred t."""
    noise: float
    """Variance of t that columns do not explain, ms^2."""

    @classmethod
    def of(cls, centred: CentredMoments) -> "Regression":
        """From at least 5 observations: one for each column, and one for the noise."""
        gram, cross = np.zeros((4, 4)), np.zeros(4)
        gram[1:, 1:], cross[1:] = centred.scatter[:3, :3], centred.scatter[:3, 3]
        variation = float(centred.scatter[3, 3])
        mean_ms = float(centred.mean[3])
        # Scaled to correlations, as tokens are thousands of times as many as sequences.
        scale = np.sqrt(np.where(np.diag(gram) > 0, np.diag(gram), 1.0))
        correlations = gram / np.outer(scale, scale)
        explained = cross / scale @ np.linalg.pinv(correlations, rcond=COLLINEAR) @ (cross / scale)
        rank = np.linalg.matrix_rank(correlations, tol=COLLINEAR)
        left = max(0.0, variation - float(explained)) / (centred.count - 1 - rank)
        return cls(
            count=centred.count,
            row=np.array([1.0, *centred.mean[:3]]),
            mean_ms=mean_ms,
            gram=gram,
            cross=cross,
            variation=variation,
            noise=max(left, (MODEL_ERROR * mean_ms) ** 2),
        )

    def squared_residuals(self, slopes: Array) -> float:
        """Sum over observations."""
        about = self.variation + float(slopes @ self.gram @ slopes - 2 * slopes @ self.cross)
        off = self.mean_ms - float(self.row @ slopes)
        return self.count * off * off + max(0.0, about)


@dataclass(frozen=True, eq=False, slots=True)
class Belief:
    """What is known of the slopes before anything is seen."""

    mean: Array
    spread: Array
    """Standard deviations, above 0."""

    @classmethod
    def about(cls, mean: Array, relative_spread: float, seen: Regression) -> "Belief":
        """Slopes of `mean`, each within `relative_spread` of itself (a standard deviation).

        What is believed to be nothing may still amount to MODEL_ERROR of a step.
        """
        unseen = np.divide(
            MODEL_ERROR * seen.mean_ms, seen.row, out=np.zeros(4), where=seen.row > _SMALLEST_MEAN
        )
        spread = np.maximum(relative_spread * mean, unseen)
        return cls(mean, np.maximum(spread, _SMALLEST_SPREAD))


@dataclass(frozen=True, eq=False, slots=True)
class Posterior:
    """The slopes as belief and observations have them together."""

    free: Array
    """Wherever they fall."""
    slopes: Array
    """None of them negative."""
    errors: Array
    """Standard errors."""


def infer(seen: Regression, belief: Belief) -> Posterior:
    """The most probable slopes: a ridge regression in units of the belief's spread.

    With slopes = mean + spread * u, u is a priori standard normal. The means of the columns enter
    as one more equation beside the centred ones, so that no large sums are subtracted.
    """
    spread = belief.spread
    scaled_row = spread * seen.row
    centred = np.outer(spread, spread) * seen.gram
    precision = (centred + seen.count * np.outer(scaled_row, scaled_row)) / seen.noise + np.eye(4)
    surplus = seen.mean_ms - seen.row @ belief.mean
    pull = spread * (seen.cross - seen.gram @ belief.mean) + seen.count * scaled_row * surplus
    pull = pull / seen.noise
    covariance = _inverse(precision)
    free = belief.mean + spread * (covariance @ pull)
    held: list[int] = []
    slopes = free
    while np.any(slopes < 0):
        held.append(int(np.argmin(slopes / belief.spread)))
        slopes = _with_zeros(precision, pull, belief, held)
    errors = spread * np.sqrt(np.diag(covariance))
    return Posterior(free, slopes, errors)


def _with_zeros(precision: Array, pull: Array, belief: Belief, held: list[int]) -> Array:
    """The most probable slopes of which those in `held` are 0."""
    others = [index for index in range(4) if index not in held]
    units = np.zeros(4)
    units[held] = -belief.mean[held] / belief.spread[held]
    rest = pull[others] - precision[np.ix_(others, held)] @ units[held]
    units[others] = _inverse(precision[np.ix_(others, others)]) @ rest
    slopes: Array = belief.mean + belief.spread * units
    slopes[held] = 0.0
    return slopes


def _inverse(precision: Array) -> Array:
    """Of a symmetric matrix none of whose eigenvalues is below the belief's own 1."""
    values, vectors = np.linalg.eigh(precision)
    inverse: Array = vectors / np.maximum(values, 1.0) @ vectors.T
    return inverse


def varied(seen: Regression, belief: Belief, standard_errors: float) -> NDArray[np.bool_]:
    """Which of B, S and P varied by more than `standard_errors` at the belief's width, shape (3,).

    Below 1 the observations say less about its slope than the belief does.
    """
    worth = np.sqrt(np.diag(seen.gram) / seen.noise) * belief.spread
    enough: NDArray[np.bool_] = worth[1:] >= standard_errors
    return enough
