"""Traffic from histograms: what it derives, and what it refuses."""

import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_planner.explain import explain
from cascade_planner.histogram import LengthHistogram
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.prefill_work import PrefillWork
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem
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


def histogram(lengths: list[float], max_length: int = MAX_LENGTH) -> LengthHistogram:
    return LengthHistogram.of_lengths(lengths, SECONDS, max_length)


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


FULL = histogram([100.0] * 150 + [900.0] * 150)


@pytest.mark.parametrize(
    "given_as",
    [
        pytest.param(LengthHistogram(FULL.buckets[::-1]), id="in any order"),
        pytest.param(LengthHistogram(FULL.buckets[::2] + FULL.buckets[-1:]), id="with gaps"),
        pytest.param(LengthHistogram(FULL.buckets[:-1]), id="without +Inf"),
        pytest.param(
            LengthHistogram.of((str(le), str(rate)) for le, rate in FULL.buckets), id="as strings"
        ),
        pytest.param(
            LengthHistogram(tuple((le, rate / 2) for le, rate in FULL.buckets) * 2),
            id="with every bound spelled twice",
        ),
        pytest.param(histogram([100.0] * 150 + [900.0] * 150, 131072), id="from a longer grid"),
        pytest.param(histogram([100.0] * 150 + [900.0] * 150, 1000), id="from a shorter grid"),
        pytest.param(
            LengthHistogram(
                tuple((le, r * (1 - 1e-9 * i)) for i, (le, r) in enumerate(FULL.buckets))
            ),
            id="with rounding that lets it fall a little",
        ),
        pytest.param(
            LengthHistogram((*FULL.buckets, (1000.0, FULL.buckets[-1][1] / 2))),
            id="with a bound that only half of the pods know",
        ),
    ],
)
def test_a_histogram_is_understood(given_as: LengthHistogram) -> None:
    grid = np.asarray(length_grid(MAX_LENGTH), dtype=np.float64)
    at = given_as.cumulative_at(grid)
    assert at[grid == 512][0] == pytest.approx(150 / SECONDS, rel=1e-6)
    assert at[-1] == pytest.approx(300 / SECONDS, rel=1e-6)
    assert (np.diff(at) >= 0).all()


@pytest.mark.parametrize(
    ("prompt", "final", "age", "reason", "words"),
    [
        pytest.param((), FULL.buckets, 0, ProblemReason.NO_METRICS, "prompt", id="no series"),
        pytest.param(FULL.buckets, (), 0, ProblemReason.NO_METRICS, "final", id="half a series"),
        pytest.param(
            ((16.0, 0.0), (math.inf, 0.0)),
            ((16.0, 0.0), (math.inf, 0.0)),
            0,
            ProblemReason.NO_TRAFFIC,
            "no request",
            id="series that stand still",
        ),
        pytest.param(
            histogram([100.0] * 30).buckets,
            histogram([200.0] * 30).buckets,
            0,
            ProblemReason.TOO_FEW_REQUESTS,
            "30 requests",
            id="a handful of requests",
        ),
        pytest.param(
            FULL.buckets, FULL.buckets, 300, ProblemReason.STALE_METRICS, "300 s", id="old samples"
        ),
        pytest.param(
            FULL.buckets,
            FULL.buckets,
            math.nan,
            ProblemReason.STALE_METRICS,
            "nan",
            id="samples of no known age",
        ),
        pytest.param(
            (*FULL.buckets, (50.0, math.nan)),
            FULL.buckets,
            0,
            ProblemReason.MALFORMED_HISTOGRAM,
            "le=50",
            id="a rate that is NaN",
        ),
        pytest.param(
            (*FULL.buckets, (50.0, -1.0)),
            FULL.buckets,
            0,
            ProblemReason.MALFORMED_HISTOGRAM,
            "le=50",
            id="a negative rate, as a counter reset leaves without rate()",
        ),
        pytest.param(
            LengthHistogram.of([("long", 1.0)]).buckets,
            FULL.buckets,
            0,
            ProblemReason.MALFORMED_HISTOGRAM,
            "bound",
            id="a bound that is no number",
        ),
        pytest.param(
            ((16.0, 9.0), (math.inf, 1.0)),
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "le=16",
            id="a bucket that counts more than all",
        ),
        pytest.param(
            ((16.0, 9.0), (64.0, 5.0), (256.0, 1.0)),
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "le=+Inf",
            id="buckets that fall, and no +Inf",
        ),
        pytest.param(
            (*((16.0 * 2**i, 9.0 - i) for i in range(8)), (math.inf, 9.0)),
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "7 of 9 buckets",
            id="buckets that each count their own lengths only",
        ),
        pytest.param(
            ((math.inf, 9.0),),
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "the longest bound",
            id="nothing but +Inf",
        ),
        pytest.param(
            FULL.buckets,
            ((16.0, 0.0), (64.0, 0.1), (math.inf, 0.5)),
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "80 % are longer than 64 tokens",
            id="most lengths beyond the longest bound",
        ),
        pytest.param(
            histogram([1e5] * 300, 131072).buckets,
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "check maxLength",
            id="most lengths beyond what the model can take",
        ),
        pytest.param(
            FULL.buckets,
            ((16.0, 0.0), (math.inf, 0.0)),
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "same pods",
            id="prompts without finals",
        ),
        pytest.param(
            ((16.0, 0.0), (math.inf, 0.0)),
            FULL.buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "same pods",
            id="finals without prompts",
        ),
        pytest.param(
            ((16.0, math.inf), (math.inf, math.inf)),
            FULL.buckets,
            0,
            ProblemReason.MALFORMED_HISTOGRAM,
            "inf",
            id="a rate without bound",
        ),
        pytest.param(
            ((-16.0, 0.1), (math.inf, 0.5)),
            FULL.buckets,
            0,
            ProblemReason.MALFORMED_HISTOGRAM,
            "-16",
            id="a bound below zero",
        ),
        pytest.param(
            FULL.buckets,
            FULL.buckets,
            -1,
            ProblemReason.STALE_METRICS,
            "-1 s",
            id="samples from the future",
        ),
        pytest.param(
            FULL.buckets,
            histogram([200.0] * 200 + [1000.0] * 200).buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "same pods",
            id="histograms of different requests",
        ),
        pytest.param(
            histogram([900.0] * 300).buckets,
            histogram([100.0] * 300).buckets,
            0,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "shorter than their prompts",
            id="requests that end shorter than they began",
        ),
    ],
)
def test_a_problem_is_named(
    prompt: tuple[tuple[float, float], ...],
    final: tuple[tuple[float, float], ...],
    age: float,
    reason: ProblemReason,
    words: str,
) -> None:
    found = Traffic.from_histograms(
        LengthHistogram(prompt), LengthHistogram(final), MAX_LENGTH, age_seconds=age
    )
    assert isinstance(found, TrafficProblem)
    assert found.reason == reason
    assert words in found.message


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


@pytest.mark.parametrize("seconds", [0.0, -60.0, math.nan, math.inf])
def test_a_window_that_is_no_time_is_a_problem(seconds: float) -> None:
    for found in (
        Traffic.from_histograms(FULL, FULL, MAX_LENGTH, window_seconds=seconds),
        Traffic.from_lengths([100.0] * 300, [200.0] * 300, seconds, MAX_LENGTH),
    ):
        assert isinstance(found, TrafficProblem)
        assert found.reason is ProblemReason.MALFORMED_HISTOGRAM
        assert "above 0 s" in found.message


@pytest.mark.parametrize(
    ("prompts", "finals", "reason", "words"),
    [
        pytest.param([], [], ProblemReason.NO_TRAFFIC, "no request", id="no request at all"),
        pytest.param(
            [100.0] * 200,
            [200.0] * 199,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "200 prompt lengths and 199",
            id="a final length too few",
        ),
        pytest.param(
            [100.0, math.nan] * 100,
            [200.0] * 200,
            ProblemReason.MALFORMED_HISTOGRAM,
            "request 2",
            id="a length that is no number",
        ),
        pytest.param(
            [-5.0] * 200,
            [200.0] * 200,
            ProblemReason.MALFORMED_HISTOGRAM,
            "-5",
            id="a length below zero",
        ),
        pytest.param(
            [1e300] * 200,
            [1e300] * 200,
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "check maxLength",
            id="absurd lengths",
        ),
    ],
)
def test_requests_that_cannot_be_planned_for(
    prompts: list[float], finals: list[float], reason: ProblemReason, words: str
) -> None:
    found = Traffic.from_lengths(prompts, finals, SECONDS, MAX_LENGTH)
    assert isinstance(found, TrafficProblem)
    assert found.reason is reason
    assert words in found.message


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


def prefill_work(
    rate: float, prompt: float, cached: float, le_length: float, engine_name: str = "h100-8b"
) -> PrefillWork:
    work = profile(engine_name).prefill_ms(prompt, cached)
    return PrefillWork(le_length, rate, rate * work, rate * work * work)


def test_prefill_work_replaces_that_of_whole_prompts() -> None:
    engine = profile("h100-8b")
    lengths = [100.0] * 200 + [3000.0] * 100
    whole = Traffic.from_lengths(lengths, lengths, SECONDS, MAX_LENGTH)
    assert isinstance(whole, Traffic)
    rows = [prefill_work(200 / SECONDS, 100, 0, 108), prefill_work(100 / SECONDS, 3000, 2700, 3044)]
    cached = whole.with_prefill_work(rows, engine)
    pool = Partition((MAX_LENGTH,), (1,))
    work, _ = Pricing(cached, engine, Objective()).forecast(pool)
    exact = (200 * engine.prefill_ms(100) + 100 * engine.prefill_ms(3000, 2700)) / SECONDS / 1000
    # A prompt is known within its bucket, and is never taken to be more than whole.
    assert float(work.prefill[0]) == pytest.approx(exact, rel=0.05)
    squares = 200 * engine.prefill_ms(100) ** 2 + 100 * engine.prefill_ms(3000, 2700) ** 2
    assert float(work.prefill_squared[0]) == pytest.approx(squares / SECONDS / 1000, rel=0.1)
    assert cached.summary == whole.summary


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(PrefillWork(math.nan, 1, 1, 1), id="a bucket that is no length"),
        pytest.param(PrefillWork(3044, -1, 1, 1), id="a negative rate"),
        pytest.param(PrefillWork(3044, 1, math.nan, 1), id="work that is no number"),
        pytest.param(PrefillWork(3044, 1, 1, math.inf), id="work without bound"),
        pytest.param(PrefillWork(3044, 0, 0, 0), id="nothing measured"),
        pytest.param(PrefillWork(3044, 1, 1e6, 1e12), id="more than whole prompts"),
    ],
)
def test_prefill_work_that_cannot_be_believed_counts_prompts_as_whole(row: PrefillWork) -> None:
    traffic = traffic_of([(3000, 100)] * 200)
    given_it = traffic.with_prefill_work([row], profile("h100-8b"))
    assert given_it.prefill.of_work.tolist() == traffic.prefill.of_work.tolist()
    assert given_it.prefill.of_square.tolist() == traffic.prefill.of_square.tolist()


def test_long_prompts_that_are_cached_need_fewer_instances() -> None:
    """A workload whose long prompts are 80 % cached, in a plan with one fixed boundary."""
    engine = profile("h100-8b")
    generator = np.random.default_rng(5)
    prompts = np.where(generator.uniform(size=6000) < 0.7, 500.0, 8000.0)
    finals = prompts + generator.integers(50, 400, 6000)
    whole = Traffic.from_lengths(prompts.tolist(), finals.tolist(), 200, 16384)
    assert isinstance(whole, Traffic)
    cached = whole.with_prefill_work([prefill_work(9.0, 8000, 6400, 8192)], engine)
    options = PlanOptions(boundaries=(2048,))
    long_stage, less = (
        solve(traffic, engine, 16, options=options).partition.instances[1]
        for traffic in (whole, cached)
    )
    assert less < long_stage
