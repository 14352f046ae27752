"""The load as it travels, and its arithmetic."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.load import IDLE, MAX_PREFILL_SHARE, InstanceLoad, InvalidLoad

loads = st.builds(
    InstanceLoad,
    st.integers(0, 10_000),
    st.integers(0, 10**9),
    st.integers(0, 10**15),
    st.floats(0, 1e6),
    st.floats(0, MAX_PREFILL_SHARE),
)


@given(load=loads)
def test_the_wire_form_keeps_a_load(load: InstanceLoad) -> None:
    read = InstanceLoad.from_wire({**load.to_wire(), "unknown": "ignored"})
    assert (read.sequences, read.kv_tokens, read.kv_tokens_squared) == (
        load.sequences,
        load.kv_tokens,
        load.kv_tokens_squared,
    )
    assert read.waiting_prefill_ms == pytest.approx(load.waiting_prefill_ms, abs=1e-3)
    assert read.prefill_share == pytest.approx(load.prefill_share, abs=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("b", None, id="a missing count"),
        pytest.param("b", True, id="a boolean"),
        pytest.param("s", 1.5, id="half a token"),
        pytest.param("s2", -1, id="a negative sum"),
        pytest.param("w", "3", id="a number in quotes"),
        pytest.param("w", math.nan, id="not a number"),
        pytest.param("p", math.inf, id="an infinite share"),
    ],
)
def test_a_malformed_load_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidLoad, match=f"load: {field} "):
        InstanceLoad.from_wire({**IDLE.to_wire(), field: value})


@given(load=loads, length=st.integers(0, 100_000))
def test_adding_and_taking_away_a_sequence_cancel_out(load: InstanceLoad, length: int) -> None:
    assert load.plus(length).minus(length) == load
