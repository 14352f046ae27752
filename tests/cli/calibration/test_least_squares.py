"""Least squares of relative errors: never negative, hard to lead astray, honest."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.least_squares import (
    LEAST_ERROR,
    sigmas,
    solve,
    solve_robustly,
    standard_errors,
    t_quantile,
)

SEEDS = st.integers(0, 2**32 - 1)
ROWS = 24


def features(rng: np.random.Generator, columns: int = 3) -> np.ndarray:
    return rng.uniform(0.1, 10, (ROWS, columns))


@given(seed=SEEDS, truth=st.lists(st.floats(0.01, 100), min_size=3, max_size=3))
def test_exact_values_give_exact_coefficients(seed: int, truth: list[float]) -> None:
    design = features(np.random.default_rng(seed))
    values = design @ np.array(truth)
    found = solve(design, values, np.ones(ROWS))
    assert found.coefficients == pytest.approx(truth, rel=1e-5)
    assert found.residuals == pytest.approx(np.zeros(ROWS), abs=1e-8)


@given(seed=SEEDS)
def test_no_other_coefficients_from_0_on_fit_better(seed: int) -> None:
    rng = np.random.default_rng(seed)
    design, values = features(rng), rng.uniform(1, 10, ROWS)
    weights = rng.uniform(0.1, 1, ROWS)

    def left(coefficients: np.ndarray) -> float:
        return float(weights @ (design @ coefficients / values - 1) ** 2)

    found = solve(design, values, weights).coefficients
    assert np.all(found >= 0)
    for _ in range(50):
        other = np.maximum(0, found + rng.normal(0, 0.1, 3) * rng.integers(0, 2, 3))
        assert left(found) <= left(other) + 1e-9


@given(seed=SEEDS, factor=st.floats(1.2, 10))
def test_a_few_values_that_are_far_off_change_little(seed: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    design, truth = features(rng), np.array([1.0, 2.0, 0.5])
    values = design @ truth
    values[:3] *= factor
    found, weights = solve_robustly(design, values, sigmas(np.zeros(ROWS)))
    assert design[3:] @ found.coefficients == pytest.approx(values[3:], rel=0.02)
    assert weights[:3].max() < weights[3:].min()


def test_the_errors_are_those_that_repetition_shows() -> None:
    rng = np.random.default_rng(1)
    design, truth, noise = features(rng), np.array([3.0, 1.0, 2.0]), 0.03
    values = design @ truth
    sigma = np.full(ROWS, noise)
    found, told = [], []
    for _ in range(300):
        noisy = values * (1 + noise * rng.standard_normal(ROWS))
        solution, weights = solve_robustly(design, noisy, sigma)
        slopes = design / noisy[:, None]
        found.append(solution.coefficients)
        told.append(standard_errors(slopes, solution.residuals, sigma, weights))
    spread = np.std(found, axis=0)
    assert np.median(told, axis=0) == pytest.approx(spread, rel=0.5)
    assert np.all(np.median(told, axis=0) > 0.9 * spread)


def test_what_rows_tell_only_in_sum_has_no_end() -> None:
    design = np.column_stack([np.ones(ROWS), np.ones(ROWS)])
    errors = standard_errors(design, np.zeros(ROWS), np.full(ROWS, LEAST_ERROR), np.ones(ROWS))
    assert np.all(np.isinf(errors))


def test_what_no_row_holds_has_no_end_and_the_rest_has() -> None:
    design = np.column_stack([np.ones(ROWS), np.zeros(ROWS)])
    errors = standard_errors(design, np.zeros(ROWS), np.full(ROWS, LEAST_ERROR), np.ones(ROWS))
    assert errors[0] == pytest.approx(LEAST_ERROR / math.sqrt(ROWS), rel=0.1)
    assert math.isinf(errors[1])


@pytest.mark.parametrize(
    ("freedom", "expected"), [(3, 3.182), (4, 2.776), (6, 2.447), (10, 2.228), (34, 2.032)]
)
def test_quantiles_of_t_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, rel=0.02)


def test_two_degrees_of_freedom_are_refused() -> None:
    with pytest.raises(ValueError, match="2 degrees"):
        t_quantile(2)
