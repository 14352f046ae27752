"""Engine models from step times: found within what is stated, refused where there is none."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.calibration.decode_steps import DecodeStep
from cascade_cli.calibration.design import Budget, Design, Limits, Pace, design
from cascade_cli.calibration.fit import (
    DECODE,
    PREFILL,
    CalibrationFailed,
    Estimate,
    Fit,
    estimate,
    fit,
    uncertain,
)
from cascade_cli.calibration.prefill_work import PrefillWork
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import PROFILES, profile

SEEDS = st.integers(0, 2**32 - 1)


def design_for(engine: EngineModel) -> Design:
    pace = Pace(engine.base_ms, engine.prefill_ms_per_token)
    return design(Limits(32768, engine.kv_capacity_tokens, 64), pace, Budget(180, 500_000))


def steps_of(
    plan: Design, engine: EngineModel, noise: float, rng: np.random.Generator
) -> list[DecodeStep]:
    """What a session with this plan would measure; relative standard deviation `noise`."""
    found = []
    for ladder in [*plan.ladders] * plan.repeats:
        lengths: list[float] = []
        for place, added in enumerate(ladder.rungs):
            lengths = [length + plan.steps for length in lengths] + list(map(float, added))
            cv = float(np.std(lengths) / np.mean(lengths))
            ms = engine.decode_ms(len(lengths), sum(lengths), engine.penalty_of_cv(cv))
            ms *= 1 + noise * float(rng.standard_normal())
            name = f"{ladder.name} {place}"
            found.append(DecodeStep(name, len(lengths), sum(lengths), cv, ms, noise * ms, ms))
    return found


def works_of(
    plan: Design, engine: EngineModel, noise: float, rng: np.random.Generator
) -> list[PrefillWork]:
    return [
        PrefillWork(
            f"prompt {tokens}", tokens, 0,
            engine.prefill_ms(tokens) * (1 + noise * float(rng.standard_normal())),
            noise * engine.prefill_ms(tokens), 1,
        )
        for _ in range(plan.repeats)
        for tokens in plan.probes
    ]  # fmt: skip


def fitted(engine: EngineModel, noise: float, seed: int) -> Fit:
    rng, plan = np.random.default_rng(seed), design_for(engine)
    return fit(steps_of(plan, engine, noise, rng), works_of(plan, engine, noise, rng))


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_an_exact_engine_is_found_exactly(name: str) -> None:
    engine = replace(profile(name), heterogeneity=0.4)
    found = fitted(engine, 0.0, 1)
    truth = engine.to_json()
    for coefficient in (*DECODE, *PREFILL):
        assert found.estimates[coefficient].value == pytest.approx(truth[coefficient], rel=0.01)
    assert found.decode.greatest < 0.01
    assert found.prefill.greatest < 0.01


def test_an_engine_of_which_uneven_lengths_cost_nothing_has_no_penalty() -> None:
    found = fitted(profile("h100-8b"), 0.005, 3).estimates["heterogeneity"]
    assert found.low == 0
    assert found.value < 0.05


def estimated(engine: EngineModel, noise: float, seed: int) -> dict[str, Estimate]:
    rng, plan = np.random.default_rng(seed), design_for(engine)
    return estimate(steps_of(plan, engine, noise, rng), works_of(plan, engine, noise, rng))


@given(heterogeneity=st.floats(0.05, 2), noise=st.floats(0.001, 0.02), seed=SEEDS)
def test_the_truth_is_within_twice_the_stated_interval(
    heterogeneity: float, noise: float, seed: int
) -> None:
    engine = replace(profile("simulated"), heterogeneity=heterogeneity)
    found, truth = estimated(engine, noise, seed), engine.to_json()
    for name in ("baseMs", "perKvTokenMs", *PREFILL):
        width = found[name].high - found[name].value
        assert abs(found[name].value - truth[name]) <= 2 * width


def test_95_percent_intervals_hold_the_truth_about_as_often() -> None:
    engine = profile("simulated")
    truth = engine.to_json()
    held = [
        found[name].low <= truth[name] <= found[name].high
        for found in (estimated(engine, 0.01, seed) for seed in range(40))
        for name in (*DECODE, *PREFILL)
    ]
    assert np.mean(held) >= 0.88


def test_one_disturbed_batch_and_one_disturbed_prompt_change_little() -> None:
    engine, rng = profile("simulated"), np.random.default_rng(2)
    plan = design_for(engine)
    steps, works = steps_of(plan, engine, 0.002, rng), works_of(plan, engine, 0.002, rng)
    steps[5] = replace(steps[5], ms=3 * steps[5].ms)
    works[7] = replace(works[7], ms=1.5 * works[7].ms)
    found, truth = fit(steps, works), engine.to_json()
    for name in (*DECODE, "prefillMsPerToken"):
        assert found.estimates[name].value == pytest.approx(truth[name], rel=0.05)


def test_even_lengths_leave_the_penalty_open() -> None:
    engine, rng = profile("simulated"), np.random.default_rng(4)
    plan = design_for(engine)
    steps = [replace(step, cv=0.0) for step in steps_of(plan, engine, 0.002, rng)]
    found = fit(steps, works_of(plan, engine, 0.002, rng)).estimates
    assert math.isinf(found["heterogeneity"].high)
    assert "heterogeneity" in set(uncertain(found))
    assert found["baseMs"].high < math.inf


Change = tuple[Sequence[DecodeStep], Sequence[PrefillWork]]


def shuffled(steps: Sequence[DecodeStep]) -> list[DecodeStep]:
    """Times that have nothing to do with batches."""
    rng = np.random.default_rng(5)
    return [replace(step, ms=float(rng.choice([5.0, 50.0, 500.0]))) for step in steps]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        pytest.param("few batches", "only 7 batches", id="too few batches"),
        pytest.param("few prompts", "only 5 prompts", id="too few prompts"),
        pytest.param("noise", "does not decide", id="times that have nothing to do with batches"),
    ],
)
def test_what_makes_no_model_is_refused_with_what_to_do(case: str, words: str) -> None:
    engine, rng = profile("simulated"), np.random.default_rng(6)
    plan = design_for(engine)
    steps, works = steps_of(plan, engine, 0.002, rng), works_of(plan, engine, 0.002, rng)
    changed: dict[str, Change] = {
        "few batches": (steps[:7], works),
        "few prompts": (steps, works[:5]),
        "noise": (shuffled(steps), works),
    }
    with pytest.raises(CalibrationFailed, match=words):
        fit(*changed[case])
