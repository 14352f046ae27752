"""Robust least squares of relative errors with coefficients that are not negative."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np

from cascade_planner.arrays import Array

HUBER: Final = 1.345
"""Standard deviations beyond which an observation loses weight: 95 % efficient if none should."""
LEAST_ERROR: Final = 0.005
"""Relative standard error that an observation has at least: what clocks, sockets and a model of
straight lines leave, and repetition does not average out."""
_MAD_OF_NORMAL: Final = 1.4826
_ROUNDS: Final = 8
_TINY: Final = 1e-300
_Z: Final = 1.959964
"""Of a normal distribution, 97.5 %."""


@dataclass(frozen=True, eq=False, slots=True)
class Solution:
    """Coefficients, shape (columns,), and what they leave of each row, relative, shape (rows,)."""

    coefficients: Array
    residuals: Array


def sigmas(known: Array) -> Array:
    """Relative standard errors of rows that by their own spread have the errors `known`."""
    found: Array = np.hypot(known, LEAST_ERROR)
    return found


def solve(features: Array, values: Array, weights: Array) -> Solution:
    """Least squares of features @ c / values - 1 over all c >= 0; exact for few columns.

    `features` has shape (rows, columns), `values` and `weights` (rows,), all above 0. The best of
    all choices of columns that are held at 0.
    """
    scaled = features / values[:, None]
    units = np.maximum(np.sqrt(weights @ scaled**2), _TINY)
    unit = scaled / units
    pull = unit * weights[:, None]
    gram, wanted = pull.T @ unit, pull.sum(axis=0)
    free = _solved(gram, wanted)
    best = free if np.all(free >= 0) else _best_with_zeros(unit, weights, gram, wanted)
    residuals: Array = unit @ best - 1
    return Solution(best / units, residuals)


def _best_with_zeros(unit: Array, weights: Array, gram: Array, wanted: Array) -> Array:
    """The best of all choices of columns that are not held at 0, where not all of them can be."""
    best, least = np.zeros(len(wanted)), math.inf
    for size in range(1, len(wanted)):
        for chosen in map(list, combinations(range(len(wanted)), size)):
            found = np.zeros(len(wanted))
            found[chosen] = _solved(gram[np.ix_(chosen, chosen)], wanted[chosen])
            left = float(weights @ (unit @ found - 1) ** 2)
            if np.all(found >= 0) and left < least:
                best, least = found, left
    return best


def _solved(gram: Array, wanted: Array) -> Array:
    """The coefficients of normal equations; the shortest where there are many."""
    try:
        return np.linalg.solve(gram, wanted).astype(np.float64)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(gram, wanted, rcond=None)[0].astype(np.float64)


def robust_weights(residuals: Array, sigma: Array) -> Array:
    """Weights of the next round of a Huber fit, shape (rows,).

    1/sigma^2, less for rows whose residual exceeds HUBER of what their sigma, or all rows
    together, lead to expect.
    """
    off = np.abs(residuals) / sigma
    scale = max(1.0, _MAD_OF_NORMAL * float(np.median(off)))
    weights: Array = np.minimum(1.0, HUBER * scale / np.maximum(off, 1e-9)) / sigma**2
    return weights


def solve_robustly(features: Array, values: Array, sigma: Array) -> tuple[Solution, Array]:
    """`solve`, in which outliers count less, and the weights that it came to."""
    weights = sigma**-2
    solution = solve(features, values, weights)
    for _ in range(_ROUNDS):
        weights = robust_weights(solution.residuals, sigma)
        solution = solve(features, values, weights)
    return solution, weights


def standard_errors(slopes: Array, residuals: Array, sigma: Array, weights: Array) -> Array:
    """Of coefficients, shape (columns,), if each row is as uncertain as it turned out to be.

    `slopes` (rows, columns) are of relative values by coefficient, `residuals` the relative ones,
    `sigma` the relative standard errors of the rows by themselves. The covariance is the
    heteroscedasticity-consistent one, HC3 (MacKinnon and White 1985), of a weighted fit. Infinite
    for a coefficient that the rows do not tell.
    """
    scale = np.linalg.norm(slopes, axis=0)
    errors = np.full(slopes.shape[1], math.inf)
    told = scale > 0
    unit = slopes[:, told] / scale[told]
    if not told.any() or np.linalg.matrix_rank(unit, tol=1e-6) < unit.shape[1]:
        return errors
    pull = unit * weights[:, None]
    inverse = np.linalg.inv(unit.T @ pull)
    leverage = np.clip(np.einsum("ij,jk,ik->i", pull, inverse, unit), 0.0, 0.99)
    variances = np.maximum(sigma**2, (residuals / (1 - leverage)) ** 2)
    covariance = inverse @ (pull.T * variances) @ pull @ inverse
    errors[told] = np.sqrt(np.diag(covariance)) / scale[told]
    return errors


def t_quantile(freedom: int) -> float:
    """97.5 % quantile of Student's t; expansion of Abramowitz and Stegun 26.7.5, exact to 2 % from
    3 degrees of freedom on. Raises ValueError below."""
    if freedom < 3:
        raise ValueError(f"{freedom} degrees of freedom are too few for an interval")
    z, n = _Z, float(freedom)
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
