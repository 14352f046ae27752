"""What batches cost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_simulator.static_batching.engine import DEEPSPEED, TRANSFORMERS, BatchEngine

ENGINES = st.sampled_from((DEEPSPEED, TRANSFORMERS))


@given(ENGINES, st.integers(1, 128), st.integers(1, 2048), st.integers(1, 1024))
def test_a_batch_takes_its_prefill_and_each_of_its_decode_steps(
    engine: BatchEngine, sequences: int, length: int, steps: int
) -> None:
    one_by_one = engine.prefill_ms(sequences, length) + sum(
        engine.decode_ms(sequences, padded) for padded in range(length + 1, length + steps + 1)
    )
    assert engine.serve_ms(sequences, length, steps) == pytest.approx(one_by_one)


def test_a_decode_step_of_one_sequence_reads_the_weights_once() -> None:
    # 26 GB at three quarters of 2.039 TB/s, and 2 ms of the host.
    assert DEEPSPEED.decode_ms(1, 0) == pytest.approx(26e9 / (0.75 * 2.039e9) + 2)


def test_the_kv_cache_of_a_token_is_what_the_architecture_says() -> None:
    # 80 GB less weights and 4 GB, in pieces of 2 x 40 layers x 5,120 x 2 bytes.
    assert DEEPSPEED.kv_capacity_tokens == int(50e9 // 819_200)


def test_eager_python_is_never_faster() -> None:
    for sequences, length in ((1, 16), (16, 1024), (100, 400)):
        assert TRANSFORMERS.serve_ms(sequences, length, 128) > DEEPSPEED.serve_ms(
            sequences, length, 128
        )


def test_a_step_is_bound_by_weights_first_and_by_arithmetic_later(engine: BatchEngine) -> None:
    assert engine.decode_ms(4, 100) == pytest.approx(10 + 4 * 100 * 0.01)
    assert engine.decode_ms(20, 100) == pytest.approx(20 + 20 * 100 * 0.01)
    assert engine.prefill_ms(2, 50) == pytest.approx(100)
