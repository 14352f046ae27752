"""Step times by windows: right where the batch stands still, silent where it does not."""

from dataclasses import replace

import numpy as np
import pytest

from cascade_policy.engine_model import EngineModel
from cascade_policy.ledger import LoadLedger
from cascade_policy.profiles import profile
from cascade_policy.step_window import BatchState, Moments, Window, between

BEFORE = BatchState(10.0, {1: 100, 2: 40}, 2, 5000, 700, 3, 0.0)
AFTER = BatchState(11.0, {1: 150, 2: 90}, 2, 5100, 1700, 3, 0.001)


def test_tokens_over_time_are_steps() -> None:
    assert between(BEFORE, AFTER) == Window(50, 2, 5050, 20, 20.0)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"at": 10.2}, id="too short"),
        pytest.param({"tokens": {1: 150, 2: 50}}, id="one that got hardly any tokens"),
        pytest.param({"tokens": {1: 150, 2: 90, 3: 20}}, id="one that came"),
        pytest.param({"tokens": {1: 150}}, id="one that left"),
        pytest.param({"tokens": {}}, id="an empty batch"),
        pytest.param({"pauses": 4}, id="a client that was held back"),
        pytest.param({"lag": 0.006}, id="a look that was late"),
    ],
)
def test_what_does_not_stand_still_tells_nothing(changes: dict[str, object]) -> None:
    assert between(BEFORE, replace(AFTER, **changes)) is None  # type: ignore[arg-type]


def test_a_tenth_of_a_large_batch_may_change() -> None:
    before = replace(BEFORE, tokens=dict.fromkeys(range(40), 0))
    after = replace(AFTER, tokens=dict.fromkeys(range(1, 41), 50))
    window = between(before, after)
    assert window is not None
    assert window.step_ms == 20.0


def test_the_ledger_shows_who_decodes_and_what_was_prefilled() -> None:
    book = LoadLedger(profile("simulated"), 0.0)
    decoding = book.book(300, 0.0, cached=100)
    book.book(500, 0.0)
    book.book(50, 0.0, blind_tokens=10)
    decoding.first_token(1.0)
    decoding.grown = 7
    decoding.paused()
    state = book.batch(1.0, 0.002)
    assert list(state.tokens.values()) == [7]
    assert (state.sequences, state.kv_tokens) == (1, 307)
    assert (state.prefilled, state.pauses, state.lag) == (200, 1, 0.002)


def test_least_squares_on_the_moments_finds_the_engine_model_again() -> None:
    model: EngineModel = profile("h100-8b")
    random = np.random.default_rng(4)
    moments = Moments()
    for _ in range(500):
        b, s, p = random.integers(1, 200), random.integers(1, 400), random.integers(0, 500)
        prefill = model.prefill_ms_per_token * p
        t = model.decode_ms(float(b), s * 1000.0) + prefill + random.normal(0, 0.05)
        moments.add(float(random.integers(20, 80)), float(b), float(s), p / 1000, t)
    m = moments
    left = np.array(
        [
            [m.count, m.b, m.s, m.p],
            [m.b, m.bb, m.bs, m.bp],
            [m.s, m.bs, m.ss, m.sp],
            [m.p, m.bp, m.sp, m.pp],
        ]
    )
    found = np.linalg.solve(left, np.array([m.t, m.bt, m.st, m.pt]))
    assert found[0] == pytest.approx(model.base_ms, rel=0.02)
    assert found[1] == pytest.approx(model.per_sequence_ms, rel=0.05)
    assert found[2] / 1000 == pytest.approx(model.per_kv_token_ms, rel=0.02)
    assert found[3] / 1000 == pytest.approx(model.prefill_ms_per_token, rel=0.02)
