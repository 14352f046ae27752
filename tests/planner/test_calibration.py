"""Coefficients from the moments of step times: what is found, what stays, what is refused."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cascade_planner.calibration import (
    MEASURED,
    MIN_OBSERVATIONS,
    Calibration,
    CalibrationProblem,
    CalibrationReason,
    FallbackReason,
    StepMix,
    calibrate,
)
from cascade_planner.moments import StepMoments
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from e2e.engine_simulator.batch import Batch, Sampling, make_sequence

Array = NDArray[np.float64]

PRIOR = profile("h100-8b")
SIMULATED = profile("simulated")
WIRE = ("baseMs", "perSequenceMs", "perKvTokenMs", "prefillMsPerToken")


@dataclass(frozen=True)
class Load:
    """Observations: shape (n,) each."""

    sequences: Array
    kv_tokens: Array
    prefill: Array

    def timed(
        self, engine: EngineModel, noise: float, rng: np.random.Generator, steady_ms: float = 0.0
    ) -> StepMoments:
        """Moments of steps on `engine`; standard deviations: a share of each, and the same ms."""
        ms = (
            engine.base_ms
            + engine.per_sequence_ms * self.sequences
            + engine.per_kv_token_ms * self.kv_tokens
            + engine.prefill_ms_per_token * self.prefill
        )
        ms = ms * (1 + noise * rng.standard_normal(len(ms)))
        ms = ms + steady_ms * rng.standard_normal(len(ms))
        return moments_of(np.array([self.sequences, self.kv_tokens, self.prefill, ms]))


def moments_of(columns: Array) -> StepMoments:
    return StepMoments.from_steps(*columns.tolist())


def varied_load(count: int, rng: np.random.Generator) -> Load:
    sequences = rng.integers(1, 257, count).astype(np.float64)
    prefill = np.where(rng.random(count) < 0.4, rng.uniform(0, 2048, count), 0.0)
    return Load(sequences, sequences * rng.uniform(200, 4000, count), prefill)


def calibrated(moments: StepMoments, prior: EngineModel = PRIOR) -> Calibration:
    found = calibrate(moments, prior)
    assert isinstance(found, Calibration), found
    return found


# --- What is found ---


@given(
    factors=st.tuples(*[st.floats(0.4, 2.5)] * 4),
    noise=st.floats(0, 0.02),
    seed=st.integers(0, 2**32 - 1),
)
def test_known_coefficients_are_found_within_five_percent(
    factors: tuple[float, float, float, float], noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base, sequence, kv_token, prefill = factors
    # The number of sequences is 1 to 20 % of a step: enough of it to be found to 5 %.
    engine = replace(
        PRIOR,
        base_ms=PRIOR.base_ms * base,
        per_sequence_ms=5 * PRIOR.per_sequence_ms * sequence,
        per_kv_token_ms=PRIOR.per_kv_token_ms * kv_token,
        prefill_ms_per_token=PRIOR.prefill_ms_per_token * prefill,
    )
    found = calibrated(varied_load(40_000, rng).timed(engine, noise, rng))
    for wire in WIRE:
        estimate = found.estimates[wire]
        assert estimate.value == pytest.approx(engine.to_json()[wire], rel=0.05)
        assert estimate.value == found.engine.to_json()[wire]
        assert estimate.measured > MEASURED
    assert found.fallbacks == ()
    assert found.r_squared > 0.9


def test_the_order_of_the_steps_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    load = varied_load(500, rng)
    shuffled = rng.permutation(500)
    other = Load(*(column[shuffled] for column in (load.sequences, load.kv_tokens, load.prefill)))
    engine = replace(PRIOR, base_ms=11.0)
    found = [calibrated(one.timed(engine, 0.0, rng)).engine for one in (load, other)]
    assert list(found[0].to_json().values()) == pytest.approx(list(found[1].to_json().values()))


def test_little_data_is_weighed_against_the_profile_and_much_is_believed() -> None:
    rng = np.random.default_rng(5)
    slower = replace(PRIOR, per_sequence_ms=3 * PRIOR.per_sequence_ms)
    distances, errors = [], []
    for count in (50, 500, 5_000, 50_000):
        found = calibrated(varied_load(count, rng).timed(slower, 0.05, rng))
        estimate = found.estimates["perSequenceMs"]
        distances.append(abs(estimate.value / slower.per_sequence_ms - 1))
        errors.append(estimate.error)
        assert PRIOR.per_sequence_ms < estimate.value
    assert distances[-1] < 0.03 < distances[0]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize(
    ("growing", "steady", "wanted"),
    [
        pytest.param(0.0, 1.0, 180, id="as often as it says if all steps are equally noisy"),
        pytest.param(0.02, 0.0, 160, id="less often if long steps are noisier than short ones"),
    ],
)
def test_the_95_percent_interval_holds_the_truth(
    growing: float, steady: float, wanted: int
) -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(200):
        truth = PRIOR.per_kv_token_ms * rng.normal(1, 0.2)
        engine = replace(PRIOR, per_kv_token_ms=truth)
        load = varied_load(200, rng)
        found = calibrated(load.timed(engine, growing, rng, steady_ms=steady))
        low, high = found.estimates["perKvTokenMs"].interval
        hits += low <= truth <= high
    assert wanted <= hits


def test_limits_and_heterogeneity_stay_the_profiles() -> None:
    rng = np.random.default_rng(7)
    engine = replace(SIMULATED, base_ms=20.0)
    found = calibrated(varied_load(500, rng).timed(engine, 0.01, rng), SIMULATED).engine
    for field in ("heterogeneity", "chunk_tokens", "kv_capacity_tokens", "max_sequences"):
        assert getattr(found, field) == getattr(SIMULATED, field)


def test_prompt_attention_scales_with_the_prefill_of_a_token() -> None:
    rng = np.random.default_rng(8)
    prefix = 10_000.0
    slope = PRIOR.prefill_ms_per_token + PRIOR.prefill_ms_per_token_squared * prefix
    twice = replace(PRIOR, prefill_ms_per_token=2 * slope)
    moments = varied_load(5_000, rng).timed(twice, 0.01, rng)
    found = calibrate(moments, PRIOR, StepMix(prefix_tokens=prefix))
    assert isinstance(found, Calibration)
    for wire in ("prefillMsPerToken", "prefillMsPerTokenSquared"):
        assert found.engine.to_json()[wire] == pytest.approx(2 * PRIOR.to_json()[wire], rel=0.01)


# --- What stays the profile's ---


@pytest.mark.parametrize(
    ("change", "coefficient", "reason"),
    [
        pytest.param(
            lambda load: replace(load, sequences=np.full_like(load.sequences, 64.0)),
            "perSequenceMs",
            FallbackReason.SEQUENCES_UNVARIED,
            id="the batch size never changes",
        ),
        pytest.param(
            lambda load: replace(load, kv_tokens=np.full_like(load.kv_tokens, 1e5)),
            "perKvTokenMs",
            FallbackReason.KV_UNVARIED,
            id="the KV tokens never change",
        ),
        pytest.param(
            lambda load: replace(load, prefill=np.zeros_like(load.prefill)),
            "prefillMsPerToken",
            FallbackReason.PREFILL_UNVARIED,
            id="no prompt is ever computed",
        ),
        pytest.param(
            lambda load: replace(load, kv_tokens=1000 * load.sequences),
            "perSequenceMs",
            FallbackReason.VARIED_TOGETHER,
            id="KV tokens are proportional to sequences",
        ),
    ],
)
def test_what_did_not_vary_stays_the_profiles_and_is_reported(
    change: Callable[[Load], Load], coefficient: str, reason: FallbackReason
) -> None:
    rng = np.random.default_rng(9)
    # All costs by one factor, so that even what cannot be told apart is told in sum.
    engine = replace(
        PRIOR,
        base_ms=1.2 * PRIOR.base_ms,
        per_sequence_ms=1.2 * PRIOR.per_sequence_ms,
        per_kv_token_ms=1.2 * PRIOR.per_kv_token_ms,
        prefill_ms_per_token=1.2 * PRIOR.prefill_ms_per_token,
    )
    found = calibrated(change(varied_load(5_000, rng)).timed(engine, 0.02, rng))
    by_name = {fallback.coefficient: fallback for fallback in found.fallbacks}
    assert by_name[coefficient].reason is reason
    assert coefficient in by_name[coefficient].message
    assert "observe" in by_name[coefficient].message
    estimate = found.estimates[coefficient]
    assert estimate.measured < MEASURED
    assert abs(estimate.value - estimate.prior) < 0.3 * estimate.prior
    for wire in set(WIRE) - set(by_name):
        assert found.estimates[wire].value == pytest.approx(1.2 * PRIOR.to_json()[wire], rel=0.1)


def test_a_cost_that_the_profile_does_not_know_is_found_all_the_same() -> None:
    rng = np.random.default_rng(10)
    prior = replace(PRIOR, per_sequence_ms=0.0)
    engine = replace(PRIOR, per_sequence_ms=0.05)
    found = calibrated(varied_load(20_000, rng).timed(engine, 0.02, rng), prior)
    assert found.engine.per_sequence_ms == pytest.approx(0.05, rel=0.05)


def test_a_cost_that_is_nothing_is_never_negative() -> None:
    rng = np.random.default_rng(11)
    free = replace(PRIOR, per_sequence_ms=0.0)
    values = [
        calibrated(varied_load(500, rng).timed(free, 0.05, rng)).engine.per_sequence_ms
        for _ in range(30)
    ]
    assert min(values) == 0.0
    assert max(values) < 0.5 * PRIOR.per_sequence_ms


# --- What is refused ---


def refused(case: str) -> StepMoments:
    rng = np.random.default_rng(12)
    load = varied_load(5_000, rng)
    match case:
        case "no step was seen":
            return StepMoments()
        case "few steps were seen":
            return varied_load(MIN_OBSERVATIONS - 1, rng).timed(PRIOR, 0.02, rng)
        case "the load never changes":
            same = (np.full(5_000, value) for value in (64.0, 64_000.0, 0.0))
            return Load(*same).timed(PRIOR, 0.02, rng)
        case "something else decides how long steps take":
            return load.timed(PRIOR, 0.6, rng)
        case "full batches are faster than empty ones":
            ms = 40 - 0.1 * load.sequences + 1e-5 * load.kv_tokens
            rows = np.array([load.sequences, load.kv_tokens, load.prefill, ms])
            return moments_of(rows)
        case "no step takes any time":
            return replace(load.timed(PRIOR, 0, rng), t=0, bt=0, st=0, pt=0, tt=0)
        case "times are in seconds":
            rows = np.array([load.sequences, load.kv_tokens, load.prefill])
            return moments_of(np.vstack([rows, (10 + 0.1 * load.sequences) / 1000]))
        case "a counter is not a number":
            return replace(load.timed(PRIOR, 0, rng), st=float("nan"))
        case "a counter fell":
            return replace(load.timed(PRIOR, 0, rng), bb=-1.0)
        case "counters are of different windows":
            return replace(load.timed(PRIOR, 0, rng), count=2_500.0)
        case "sums without steps":
            return replace(load.timed(PRIOR, 0, rng), count=0.0)
    raise AssertionError(case)


@pytest.mark.parametrize(
    ("case", "reason", "remedy"),
    [
        ("no step was seen", CalibrationReason.TOO_FEW_OBSERVATIONS, "longer window"),
        ("few steps were seen", CalibrationReason.TOO_FEW_OBSERVATIONS, "longer window"),
        ("the load never changes", CalibrationReason.LOAD_UNVARIED, "vary the load"),
        (
            "something else decides how long steps take",
            CalibrationReason.RESIDUAL_TOO_LARGE,
            "other users of the GPU",
        ),
        (
            "full batches are faster than empty ones",
            CalibrationReason.NEGATIVE_COEFFICIENT,
            "other users of the GPU",
        ),
        ("no step takes any time", CalibrationReason.MALFORMED_MOMENTS, "in ms per step"),
        ("times are in seconds", CalibrationReason.MALFORMED_MOMENTS, "in ms per step"),
        ("a counter is not a number", CalibrationReason.MALFORMED_MOMENTS, "the same window"),
        ("a counter fell", CalibrationReason.MALFORMED_MOMENTS, "the same window"),
        ("counters are of different windows", CalibrationReason.MALFORMED_MOMENTS, "same window"),
        ("sums without steps", CalibrationReason.MALFORMED_MOMENTS, "the same window"),
    ],
)
def test_what_tells_nothing_is_refused_with_a_remedy(
    case: str, reason: CalibrationReason, remedy: str
) -> None:
    found = calibrate(refused(case), PRIOR)
    assert isinstance(found, CalibrationProblem), found
    assert found.reason is reason
    assert remedy in found.message


absurd_steps = st.lists(st.tuples(*[st.floats(0, 1e14)] * 4), min_size=1, max_size=8)


@given(
    st.builds(lambda numbers: StepMoments(*numbers), st.tuples(*[st.floats(0) | st.floats()] * 15))
    | st.builds(lambda steps: moments_of(np.tile(np.array(steps).T, 50)), absurd_steps)
)
def test_any_numbers_are_answered_by_a_usable_engine_or_a_problem(moments: StepMoments) -> None:
    found = calibrate(moments, PRIOR)
    if isinstance(found, Calibration):
        assert np.all(np.isfinite(list(found.engine.to_json().values())))
        assert all(estimate.error >= 0 for estimate in found.estimates.values())


# --- Steps of the simulated engine ---


def run_engine(engine: EngineModel, steps: int) -> tuple[Array, StepMix]:
    """Columns B, S, P, t of an engine under a swelling load, and the steps' true mix."""
    rng = np.random.default_rng(13)
    batch = Batch(engine, prefix_caching=False)
    rows: list[tuple[float, ...]] = []
    penalties, prefixes = [], []
    clock = arrival = 0.0
    while len(rows) < steps:
        while arrival <= clock:
            prompt = range(int(np.clip(rng.lognormal(np.log(600), 0.9), 16, 8000)))
            wanted = int(np.clip(rng.lognormal(np.log(150), 0.8), 2, 1500))
            batch.submit(make_sequence(prompt, Sampling(wanted, ignore_eos=True), 16))
            arrival += rng.exponential(450 / (0.15 + 0.85 * abs(np.sin(clock / 20_000))))
        step = batch.start_step()
        if step is None:
            clock = arrival
            continue
        lengths = np.array([sequence.length for sequence in step.decoding], dtype=np.float64)
        held, chunk = float(lengths.sum()), sum(take for _, take in step.prefilling)
        squares = float(lengths @ lengths)
        penalties.append(held * engine.penalty(len(lengths), held, squares))
        prefixes += [take * (one.computed + take / 2) for one, take in step.prefilling]
        rows.append((len(lengths), held, chunk, 1000 * step.seconds))
        clock += 1000 * step.seconds
        batch.finish_step(step)
    columns = np.array(rows, dtype=np.float64).T
    return columns, StepMix(sum(prefixes) / columns[2].sum(), sum(penalties) / columns[1].sum())


def test_the_simulated_engine_gives_its_own_coefficients_back() -> None:
    engine = replace(SIMULATED, heterogeneity=0.0)
    columns, mix = run_engine(engine, 4_000)
    prior = replace(engine, base_ms=8.0, per_kv_token_ms=4e-4, prefill_ms_per_token=0.3)
    found = calibrate(moments_of(columns), prior, replace(mix, prefix_tokens=0.0))
    assert isinstance(found, Calibration)
    assert found.engine.base_ms == pytest.approx(engine.base_ms, rel=0.05)
    assert found.engine.per_kv_token_ms == pytest.approx(engine.per_kv_token_ms, rel=0.05)
    assert found.engine.prefill_ms_per_token == pytest.approx(engine.prefill_ms_per_token, rel=0.05)


@pytest.mark.parametrize("window", [1, 20], ids=["of single steps", "of windows of 20 steps"])
def test_uneven_lengths_swell_c2_by_their_penalty_most_of_which_can_be_taken_out(
    window: int,
) -> None:
    columns, mix = run_engine(SIMULATED, 4_000)
    averaged = columns.reshape(4, -1, window).mean(axis=2)
    naive = calibrated(moments_of(averaged), SIMULATED)
    known = calibrate(moments_of(averaged), SIMULATED, mix)
    assert isinstance(known, Calibration)
    # H grows with the batch, so the slope over S is steeper still than C2 times the mean H.
    swollen = naive.engine.per_kv_token_ms / SIMULATED.per_kv_token_ms
    assert 1.3 < mix.penalty < swollen < 1.7
    assert 0.95 < known.engine.per_kv_token_ms / SIMULATED.per_kv_token_ms < 1.2
    prefill = known.engine.prefill_ms_per_token
    assert prefill == pytest.approx(SIMULATED.prefill_ms_per_token, rel=0.05)
