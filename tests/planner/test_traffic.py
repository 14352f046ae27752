"""Traffic from histograms: what follows from them."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner.explain import explain
from cascade_planner.histogram import LengthHistogram
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.traffic import Traffic, TrafficProblem
from cascade_policy.grid import length_grid
from cascade_policy.profiles import profile

MAX_LENGTH = 4096
SECONDS = 600.0

requests = st.lists(
    st.tuples(st.integers(1, 4000), st.integers(0, 1500)), min_size=100, max_size=150
)
rates = st.floats(allow_nan=True, allow_infinity=True) | st.floats(0, 1e6)
bounds = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from(length_grid(MAX_LENGTH))
raw_histograms = st.builds(
    LengthHistogram, st.lists(st.tuples(bounds, rates), max_size=40).map(tuple)
)


def traffic_of(pairs: list[tuple[int, int]]) -> Traffic:
    prompts = [prompt for prompt, _ in pairs]
    finals = [min(prompt + output, MAX_LENGTH) for prompt, output in pairs]
    traffic = Traffic.from_lengths(prompts, finals, SECONDS, MAX_LENGTH)
    assert isinstance(traffic, Traffic)
    return traffic


def histogram(lengths: list[float]) -> LengthHistogram:
    return LengthHistogram.of_lengths(lengths, SECONDS, MAX_LENGTH)


@given(requests)
def test_arrivals_and_crossings_at_grid_bounds_are_what_was_counted(
    pairs: list[tuple[int, int]],
) -> None:
    traffic = traffic_of(pairs)
    grid = length_grid(MAX_LENGTH)
    load = traffic.load_up_to(grid)
    for i, bound in enumerate(grid[:-1]):
        arrived = sum(prompt <= bound for prompt, _ in pairs)
        grew_past = sum(prompt <= bound < prompt + output for prompt, output in pairs)
        assert load.arrivals[i] * SECONDS == pytest.approx(arrived, abs=1e-6)
        assert traffic.crossings_at(grid)[i] * SECONDS == pytest.approx(grew_past, abs=1e-6)


@given(requests)
def test_decode_counter_makes_tokens_exact_and_lengths_stay_within_a_bucket(
    pairs: list[tuple[int, int]],
) -> None:
    load = traffic_of(pairs).load_up_to((MAX_LENGTH,))
    tokens = sum(min(prompt + output, MAX_LENGTH) - prompt for prompt, output in pairs)
    prompts = [prompt for prompt, _ in pairs]
    if tokens > 0:
        assert load.decoded[0][-1] * SECONDS == pytest.approx(tokens)
    assert load.prompts.tolist() == load.prefill[0].tolist()
    assert load.prefill[1].tolist() == load.prefill_squared[0].tolist()
    for power, moment in enumerate((load.prompts, *load.prefill_squared), start=1):
        exact = sum(float(prompt) ** power for prompt in prompts)
        # A length is known within its bucket: a factor 2^(1/4), the shortest bucket aside.
        slack = sum(16.0**power for prompt in prompts if prompt <= 16)
        assert moment[-1] * SECONDS <= exact * 1.22**power + slack
        assert moment[-1] * SECONDS >= (exact - slack) / 1.22**power


def test_without_the_counter_tokens_come_from_the_difference_of_the_histograms() -> None:
    generator = np.random.default_rng(1)
    prompts = np.exp(generator.uniform(math.log(100), math.log(1000), 20_000))
    finals = prompts + generator.uniform(1, 400, 20_000)
    traffic = Traffic.from_histograms(
        histogram(prompts.tolist()), histogram(finals.tolist()), MAX_LENGTH
    )
    assert isinstance(traffic, Traffic)
    assert traffic.output_mean == pytest.approx(200.5, rel=0.05)


@pytest.mark.parametrize(
    "counted",
    [
        pytest.param([(64.0, math.nan)], id="a rate that is no number"),
        pytest.param([(64.0, -1.0)], id="a negative rate"),
        pytest.param([("many", 1.0)], id="a label that is no length"),
        pytest.param([(64.0, 1e6)], id="far more tokens than requests can have made"),
    ],
)
def test_a_decode_counter_that_cannot_be_believed_is_left_out(
    counted: list[tuple[float | str, float]],
) -> None:
    prompts, finals = histogram([100.0] * 200), histogram([300.0] * 200)
    without = Traffic.from_histograms(prompts, finals, MAX_LENGTH)
    with_it = Traffic.from_histograms(prompts, finals, MAX_LENGTH, decoded=counted)
    assert isinstance(without, Traffic)
    assert isinstance(with_it, Traffic)
    assert with_it.decoded.tolist() == without.decoded.tolist()


@given(requests, st.lists(st.integers(1, MAX_LENGTH), min_size=1, max_size=5))
def test_cutting_at_more_lengths_changes_no_sum(
    pairs: list[tuple[int, int]], cuts: list[int]
) -> None:
    traffic = traffic_of(pairs)
    ends = sorted({*cuts, MAX_LENGTH})
    many, one = traffic.load_up_to(ends), traffic.load_up_to((MAX_LENGTH,))
    for fine, whole in (
        (many.arrivals, one.arrivals),
        (many.prompts, one.prompts),
        *zip(many.prefill, one.prefill, strict=True),
        *zip(many.prefill_squared, one.prefill_squared, strict=True),
        *zip(many.decoded, one.decoded, strict=True),
    ):
        assert fine[-1] == pytest.approx(whole[-1], rel=1e-9)
        assert (np.diff(fine) >= 0).all()


@given(requests)
def test_expected_remaining_is_finite_at_least_one_and_fits_the_model(
    pairs: list[tuple[int, int]],
) -> None:
    remaining = traffic_of(pairs).expected_remaining
    assert [length for length, _ in remaining] == list(length_grid(MAX_LENGTH))
    assert all(1 <= tokens <= MAX_LENGTH for _, tokens in remaining)


def test_expected_remaining_of_memoryless_outputs_is_their_mean() -> None:
    generator = np.random.default_rng(3)
    prompts = generator.integers(50, 800, 20_000)
    finals = np.minimum(prompts + generator.geometric(1 / 100, 20_000), MAX_LENGTH)
    traffic = Traffic.from_lengths(prompts.tolist(), finals.tolist(), SECONDS, MAX_LENGTH)
    assert isinstance(traffic, Traffic)
    for length, tokens in traffic.expected_remaining:
        if 91 <= length <= 861:
            assert tokens == pytest.approx(100, rel=0.1)


def test_summary_states_the_traffic_in_a_few_numbers() -> None:
    pairs = [(100, 50)] * 90 + [(1500, 500)] * 10
    summary = traffic_of(pairs).summary
    assert summary.requests_per_second == pytest.approx(100 / SECONDS)
    assert summary.requests == pytest.approx(100)
    assert summary.output_mean == pytest.approx(95)
    assert 91 <= summary.prompt_p50 <= 108
    assert 128 <= summary.final_p50 <= 152
    assert 1448 <= summary.prompt_p95 <= 1722


def test_noise_that_lets_a_few_requests_shrink_is_clipped() -> None:
    found = Traffic.from_histograms(
        histogram([100.0] * 98 + [900.0] * 102), histogram([100.0] * 102 + [900.0] * 98), MAX_LENGTH
    )
    assert isinstance(found, Traffic)
    assert (found.finals_above >= found.prompts_above).all()
    assert (found.decoded >= 0).all()


@settings(deadline=None)
@given(raw_histograms, raw_histograms)
def test_any_pair_of_histograms_gives_finite_traffic_or_a_problem(
    prompt: LengthHistogram, final: LengthHistogram
) -> None:
    found = Traffic.from_histograms(prompt, final, MAX_LENGTH, min_requests=1)
    if isinstance(found, TrafficProblem):
        assert found.message
        return
    load = found.load_up_to((0, 100, MAX_LENGTH))
    sums_of_all = (load.arrivals, load.prompts, *load.prefill, *load.prefill_squared, *load.decoded)
    for sums in sums_of_all:
        assert np.isfinite(sums).all()
        assert (sums >= 0).all()
    assert all(math.isfinite(number) for number in astuple(found.summary))
    plan = solve(found, profile("simulated"), 2, options=PlanOptions(bucket_ratio=4))
    assert math.isfinite(plan.cost)
    assert "nan" not in explain(plan)


def test_a_few_absurd_lengths_count_as_the_longest_possible() -> None:
    lengths = [100.0] * 299 + [1e18]
    found = Traffic.from_lengths(lengths, lengths, SECONDS, MAX_LENGTH)
    assert isinstance(found, Traffic)
    assert found.requests_per_second == pytest.approx(300 / SECONDS)
    assert found.summary.prompt_mean < 150


@pytest.mark.parametrize("max_length", [2, 10, 16, 17])
def test_models_shorter_than_the_first_bucket_can_be_planned(max_length: int) -> None:
    prompts, finals = [1.0] * 100 + [2.0] * 100, [2.0] * 200
    found = Traffic.from_lengths(prompts, finals, SECONDS, max_length)
    assert isinstance(found, Traffic)
    plan = solve(found, profile("simulated"), 4)
    assert plan.stages[-1].max_length == max_length
    assert math.isfinite(plan.cost)
