"""The grid never asks for more than engine and budget allow, and tells coefficients apart."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.design import (
    KV_SHARE,
    LEAST_LENGTH,
    SHORT,
    Budget,
    Design,
    Limits,
    Pace,
    TooSmall,
    design,
)

LIMITS = Limits(max_length=32768, kv_tokens=400_000, sequences=64)
PACE = Pace(step_ms=8.0, prefill_ms_per_token=0.016)
BUDGET = Budget(seconds=180, prompt_tokens=500_000)


def final_lengths(plan: Design) -> list[tuple[int, ...]]:
    """Prompt lengths of the batch of each rung."""
    return [
        sum(ladder.rungs[: place + 1], ())
        for ladder in plan.ladders
        for place in range(len(ladder.rungs))
    ]


@given(
    limits=st.builds(
        Limits,
        max_length=st.integers(64, 200_000),
        kv_tokens=st.none() | st.integers(1000, 2_000_000),
        sequences=st.integers(1, 300),
    ),
    pace=st.builds(Pace, step_ms=st.floats(0.5, 500), prefill_ms_per_token=st.floats(1e-4, 5)),
    budget=st.builds(
        Budget,
        seconds=st.floats(1, 3600),
        prompt_tokens=st.integers(100, 5_000_000),
        repeats=st.integers(1, 4),
    ),
)
def test_nothing_is_asked_that_engine_or_budget_do_not_allow(
    limits: Limits, pace: Pace, budget: Budget
) -> None:
    try:
        plan = design(limits, pace, budget)
    except TooSmall:
        return
    assert plan.prompt_tokens <= budget.prompt_tokens
    assert plan.seconds(pace) <= budget.seconds
    assert plan.repeats <= budget.repeats
    assert plan.sequences <= limits.sequences
    assert max(plan.probes) < limits.max_length
    for ladder in plan.ladders:
        assert max(ladder.prompts) + plan.answer_tokens(ladder) <= limits.max_length
        if limits.kv_tokens is not None:
            assert plan.kv_tokens(ladder) <= KV_SHARE * limits.kv_tokens


@given(
    seconds=st.floats(60, 600), prompt_tokens=st.integers(100_000, 2_000_000),
    sequences=st.integers(16, 128),
)  # fmt: skip
def test_every_grid_tells_number_length_and_evenness_apart(
    seconds: float, prompt_tokens: int, sequences: int
) -> None:
    limits = Limits(32768, 400_000, sequences)
    plan = design(limits, PACE, Budget(seconds, prompt_tokens))
    rows = []
    for lengths in final_lengths(plan):
        grown = np.array(lengths) + plan.steps / 2
        cv = grown.std() / grown.mean()
        rows.append((1.0, len(lengths), grown.sum(), cv * grown.sum()))
    matrix = np.array(rows)
    assert np.linalg.cond(matrix / np.linalg.norm(matrix, axis=0)) < 30
    assert len(set(plan.probes)) == 4


def test_more_budget_makes_longer_prompts() -> None:
    tokens = [
        design(LIMITS, PACE, Budget(600, budget)).probes[-1]
        for budget in (50_000, 100_000, 200_000, 400_000)
    ]
    assert tokens == sorted(set(tokens))


def test_short_of_time_steps_go_first_then_repetitions() -> None:
    slow = Pace(step_ms=40.0, prefill_ms_per_token=0.016)
    granted = (900, 400, 200)
    plans = [design(LIMITS, slow, Budget(seconds, 500_000)) for seconds in granted]
    assert [plan.repeats for plan in plans] == [2, 2, 1]
    assert plans[0].steps > plans[1].steps
    for plan, seconds in zip(plans, granted, strict=True):
        assert plan.decode_seconds(slow) <= seconds / 2


def test_the_first_sequence_of_each_ladder_stays_to_the_end() -> None:
    plan = design(LIMITS, PACE, BUDGET)
    assert all(ladder.rungs[0] for ladder in plan.ladders)
    assert {ladder.name for ladder in plan.ladders} == {"batch", "length", "mix"}
    assert min(min(ladder.prompts) for ladder in plan.ladders) == SHORT


@pytest.mark.parametrize(
    ("limits", "pace", "budget", "words"),
    [
        pytest.param(
            Limits(LEAST_LENGTH - 1, None, 64), PACE, BUDGET, "--max-model-len",
            id="a context that is too short",
        ),
        pytest.param(
            Limits(32768, None, 8), PACE, BUDGET, "--max-batch", id="batches that are too small"
        ),
        pytest.param(LIMITS, PACE, Budget(5, 500_000), "--max-seconds", id="no time"),
        pytest.param(LIMITS, PACE, Budget(180, 1000), "--max-tokens", id="no tokens"),
        pytest.param(
            Limits(32768, 4000, 64), PACE, BUDGET, "KV cache", id="a KV cache that is too small"
        ),
    ],
)  # fmt: skip
def test_no_room_for_a_grid_is_said_with_what_to_do(
    limits: Limits, pace: Pace, budget: Budget, words: str
) -> None:
    with pytest.raises(TooSmall, match=words):
        design(limits, pace, budget)
