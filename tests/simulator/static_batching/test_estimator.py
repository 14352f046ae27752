"""What the scheduler believes about time and memory."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_simulator.static_batching.engine import DEEPSPEED, TRANSFORMERS, BatchEngine
from cascade_simulator.static_batching.estimator import (
    MemoryEstimator,
    TimeEstimator,
    errors,
    fit,
    grid,
    profiled,
)

FACTORS = st.tuples(*[st.floats(-1, 10)] * 4)


@given(FACTORS, FACTORS, st.integers(0, 200), st.integers(0, 4096), st.integers(1, 300))
def test_the_closed_form_is_the_sum_over_the_slice(
    prefill: tuple[float, float, float, float],
    decode: tuple[float, float, float, float],
    sequences: int,
    length: int,
    steps: int,
) -> None:
    estimator = TimeEstimator(prefill, decode)
    decodes = [estimator.decode_ms(sequences, length + step) for step in range(1, steps + 1)]
    total = estimator.prefill_ms(sequences, length) + sum(decodes)
    scale = sum(abs(ms) for ms in decodes) + 1
    assert estimator.serve_ms(sequences, length, steps) == pytest.approx(total, abs=1e-9 * scale)


def test_the_fit_recovers_an_engine_that_has_the_estimators_form() -> None:
    engine = replace(
        DEEPSPEED, floor_ms=0.0, gemm_ms_per_token=0.2, attention_ms_per_token_squared=0.0
    )
    estimator = fit(engine, grid(engine, (1, 2, 8), (10, 100, 500)))
    assert estimator.prefill == pytest.approx((0.2, 0, 0, 0), abs=1e-9)
    assert estimator.decode == pytest.approx((engine.kv_ms_per_token, 0.2, 0, 0), abs=1e-9)


@pytest.mark.parametrize("engine", [DEEPSPEED, TRANSFORMERS], ids=lambda engine: engine.name)
def test_a_slice_is_estimated_within_3_percent_on_batches_that_were_not_profiled(
    engine: BatchEngine,
) -> None:
    held_out = grid(engine, (3, 12, 48, 96), (200, 400, 800, 1800))
    assert errors(profiled(engine), engine, held_out, steps=128).serve < 0.03


def test_only_what_fits_is_profiled() -> None:
    assert (64, 1024) not in grid(DEEPSPEED, (32, 64), (512, 1024))
    assert (32, 1024) in grid(DEEPSPEED, (32, 64), (512, 1024))


@given(st.integers(1, 100_000), st.floats(0.5, 1), st.integers(1, 8192), st.integers(1, 1024))
def test_the_largest_batch_fits_and_one_more_would_not(
    capacity: int, usable: float, length: int, steps: int
) -> None:
    batch = MemoryEstimator(capacity, usable).largest_batch(length, steps)
    assert batch == 1 or batch * (length + steps) <= usable * capacity
    assert (batch + 1) * (length + steps) > int(usable * capacity)
