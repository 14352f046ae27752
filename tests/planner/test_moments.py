"""Sums over steps: how they add up, and what they can be."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascade_planner.moments import StepMoments


def moments_of(columns: NDArray[np.float64]) -> StepMoments:
    return StepMoments.from_steps(*columns.tolist())


columns = st.lists(
    st.tuples(
        st.integers(0, 1024), st.integers(0, 10**6), st.integers(0, 8192), st.floats(0.1, 1e4)
    ),
    min_size=1,
    max_size=30,
)


def close(one: StepMoments, other: StepMoments) -> bool:
    return bool(np.allclose(astuple(one), astuple(other), rtol=1e-12))


@given(columns, columns)
def test_moments_add_up_to_those_of_all_steps_in_any_order(
    first: list[tuple[float, ...]], second: list[tuple[float, ...]]
) -> None:
    one, two = (moments_of(np.array(steps, dtype=np.float64).T) for steps in (first, second))
    both = moments_of(np.array([*second, *first], dtype=np.float64).T)
    assert close(one + two, both)
    assert close(two + one, both)
    assert one + StepMoments() == one


@given(columns)
def test_moments_of_steps_are_possible(steps: list[tuple[float, ...]]) -> None:
    assert moments_of(np.array(steps, dtype=np.float64).T).are_possible


def test_a_variance_below_the_rounding_of_its_sums_is_none() -> None:
    steps = np.array([[5.0, 5.0, 5.0], [1e9, 1e9 + 1, 1e9], [0, 0, 0], [7.0, 8.0, 9.0]])
    centred = moments_of(steps).centred()
    assert np.all(centred.scatter[:3] == 0)
    assert centred.scatter[3, 3] == pytest.approx(2.0)
    assert centred.mean == pytest.approx([5.0, 1e9, 0.0, 8.0])
