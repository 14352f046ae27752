"""Traffic from a plain engine's histograms: what dependence and coarse buckets make of it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_planner.arrays import Array
from cascade_planner.histogram import LengthHistogram
from cascade_planner.marginals import Dependence, Marginals
from cascade_planner.problems import ProblemReason, TrafficProblem
from cascade_planner.sensitivity import Sensitivity, compare
from cascade_planner.traffic import Load, Traffic
from cascade_policy.profiles import profile
from tests.planner.conftest import Lengths

MAX_LENGTH = 131072
SECONDS = 600.0
VLLM_BOUNDS = [
    float(step * 10**power)
    for power in range(6)
    for step in (1, 2, 5)
    if step * 10**power <= MAX_LENGTH
]


def coarse(lengths: Array) -> LengthHistogram:
    """As vLLM counts it: buckets 1, 2, 5, 10, ... up to the model's maximum."""
    counts = [float((lengths <= bound).sum()) / SECONDS for bound in VLLM_BOUNDS]
    return LengthHistogram(
        (*zip(VLLM_BOUNDS, counts, strict=True), (math.inf, len(lengths) / SECONDS))
    )


def log_uniform(generator: np.random.Generator, low: float, high: float, count: int) -> Array:
    """Whole lengths from e^low to e^high."""
    return np.asarray(np.exp(generator.uniform(low, high, count)).round(), dtype=np.float64)


def marginals_of(prompts: Array, outputs: Array, means: bool = True) -> Marginals:
    return Marginals(
        coarse(prompts),
        coarse(outputs),
        float(prompts.mean()) if means else None,
        float(outputs.mean()) if means else None,
        window_seconds=SECONDS,
    )


def load_of(traffic: Traffic | TrafficProblem) -> Load:
    assert isinstance(traffic, Traffic), traffic
    return traffic.load_up_to((MAX_LENGTH,))


def decode_length(traffic: Traffic | TrafficProblem) -> float:
    """Mean length of a sequence while it decodes."""
    load = load_of(traffic)
    return float(load.decoded[1][-1] / load.decoded[0][-1])


def true_traffic(prompts: Array, outputs: Array) -> Traffic:
    found = Traffic.from_lengths(prompts, prompts + outputs, SECONDS, MAX_LENGTH)
    assert isinstance(found, Traffic)
    return found


@pytest.fixture(params=["azure", "mooncake"])
def trace(request: pytest.FixtureRequest) -> tuple[str, Lengths]:
    lengths: Lengths = request.getfixturevalue(f"{request.param}_lengths")
    return request.param, lengths


def test_of_the_assumptions_independence_is_nearest_to_real_traffic(
    trace: tuple[str, Lengths],
) -> None:
    name, (prompts, outputs) = trace
    marginals = marginals_of(prompts, outputs)
    truth = decode_length(true_traffic(prompts, outputs))
    found = {one: decode_length(marginals.traffic(MAX_LENGTH, one)) for one in Dependence}
    wanted = {
        "azure": (1236, {"Independent": 1337, "Comonotone": 2189, "Countermonotone": 715}),
        "mooncake": (13214, {"Independent": 12377, "Comonotone": 24617, "Countermonotone": 4303}),
    }[name]
    assert truth == pytest.approx(wanted[0], rel=0.01)
    assert found == pytest.approx(wanted[1], rel=0.01)
    assert found[Dependence.INDEPENDENT] == pytest.approx(truth, rel=0.1)
    assert found[Dependence.COUNTERMONOTONE] < truth < found[Dependence.COMONOTONE]


def test_known_means_correct_what_coarse_buckets_leave_open(trace: tuple[str, Lengths]) -> None:
    _, (prompts, outputs) = trace
    truth = load_of(true_traffic(prompts, outputs))
    with_means = load_of(marginals_of(prompts, outputs).traffic(MAX_LENGTH))
    without = load_of(marginals_of(prompts, outputs, means=False).traffic(MAX_LENGTH))

    def error(load: Load, power: int) -> float:
        moments = (load.prompts, *load.prefill_squared)
        exact = (truth.prompts, *truth.prefill_squared)
        return abs(float(moments[power - 1][-1] / exact[power - 1][-1]) - 1)

    assert error(without, 2) > 0.1
    assert error(with_means, 2) < 0.035
    assert error(with_means, 4) < 0.06 < error(without, 4)
    assert with_means.decoded[0][-1] == pytest.approx(truth.decoded[0][-1], rel=0.005)


def test_dependence_changes_neither_prompts_nor_outputs() -> None:
    generator = np.random.default_rng(2)
    prompts = log_uniform(generator, 3, 9, 5000)
    outputs = log_uniform(generator, 1, 6, 5000)
    marginals = marginals_of(prompts, outputs)
    loads = [load_of(marginals.traffic(MAX_LENGTH, one)) for one in Dependence]
    for load in loads:
        assert load.arrivals[-1] == pytest.approx(5000 / SECONDS)
        assert load.prompts[-1] == pytest.approx(float(prompts.sum()) / SECONDS, rel=0.02)
        assert load.decoded[0][-1] == pytest.approx(float(outputs.sum()) / SECONDS, rel=0.02)
        for moment, same in zip(load.prefill_squared, loads[0].prefill_squared, strict=True):
            assert moment[-1] == pytest.approx(same[-1], rel=1e-6)


def test_of_one_prompt_length_every_dependence_is_the_same() -> None:
    generator = np.random.default_rng(3)
    outputs = log_uniform(generator, 3, 6, 2000)
    # One bucket, whose requests the mean pushes to one end of it.
    marginals = replace(marginals_of(np.full(2000, 2000.0), outputs), prompt_mean=1999.0)
    lengths = [decode_length(marginals.traffic(MAX_LENGTH, one)) for one in Dependence]
    assert lengths == pytest.approx([lengths[0]] * 3, rel=0.02)


@pytest.mark.parametrize("mean", [None, math.nan, -1.0, 0.0, math.inf, 1e9, 1.0])
def test_a_mean_that_buckets_contradict_breaks_nothing(mean: float | None) -> None:
    lengths = np.full(500, 150.0)
    marginals = replace(marginals_of(lengths, lengths), prompt_mean=mean, output_mean=mean)
    found = marginals.traffic(MAX_LENGTH)
    assert isinstance(found, Traffic)
    assert 100 <= found.output_mean <= 200
    assert np.isfinite(found.decoded).all()


def test_sequences_end_at_the_greatest_length() -> None:
    found = marginals_of(np.full(500, 1800.0), np.full(500, 1800.0)).traffic(2000)
    assert isinstance(found, Traffic)
    assert found.finals_above[-1] == 0
    assert found.output_mean < 1000


lengths = st.lists(st.integers(1, 200_000), min_size=1, max_size=30)


@given(lengths, lengths, st.sampled_from(Dependence), st.sampled_from([1, 17, 4096, MAX_LENGTH]))
def test_any_lengths_give_finite_traffic_or_a_problem(
    prompts: list[int], outputs: list[int], dependence: Dependence, max_length: int
) -> None:
    marginals = marginals_of(np.asarray(prompts * 10, float), np.asarray(outputs * 10, float))
    found = marginals.traffic(max_length, dependence, min_requests=1)
    if isinstance(found, TrafficProblem):
        assert found.message
        return
    load = found.load_up_to((0, 100, max_length))
    for sums in (load.arrivals, load.prompts, *load.prefill_squared, *load.decoded):
        assert np.isfinite(sums).all()
        assert (sums >= 0).all()


GOOD = marginals_of(np.full(300, 100.0), np.full(300, 50.0))
EMPTY = LengthHistogram(())
IDLE = LengthHistogram(((100.0, 0.0), (math.inf, 0.0)))


@pytest.mark.parametrize(
    ("marginals", "reason", "words"),
    [
        pytest.param(
            replace(GOOD, prompts=EMPTY), ProblemReason.NO_METRICS, "prompt", id="no prompt series"
        ),
        pytest.param(
            replace(GOOD, outputs=EMPTY), ProblemReason.NO_METRICS, "output", id="no output series"
        ),
        pytest.param(
            replace(GOOD, prompts=IDLE, outputs=IDLE),
            ProblemReason.NO_TRAFFIC,
            "no request",
            id="series that stand still",
        ),
        pytest.param(
            replace(GOOD, outputs=IDLE),
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            "same pods",
            id="prompts without answers",
        ),
        pytest.param(
            replace(GOOD, window_seconds=60.0),
            ProblemReason.TOO_FEW_REQUESTS,
            "30 requests",
            id="a handful of requests",
        ),
        pytest.param(
            replace(GOOD, window_seconds=0.0),
            ProblemReason.MALFORMED_HISTOGRAM,
            "above 0 s",
            id="no time",
        ),
        pytest.param(
            replace(GOOD, age_seconds=900.0),
            ProblemReason.STALE_METRICS,
            "900 s",
            id="old samples",
        ),
        pytest.param(
            replace(GOOD, outputs=LengthHistogram(((100.0, math.nan),))),
            ProblemReason.MALFORMED_HISTOGRAM,
            "output lengths",
            id="a rate that is NaN",
        ),
    ],
)
def test_a_problem_is_named(marginals: Marginals, reason: ProblemReason, words: str) -> None:
    for found in (
        marginals.traffic(MAX_LENGTH),
        compare(marginals, MAX_LENGTH, profile("h100-8b"), 4),
    ):
        assert isinstance(found, TrafficProblem)
        assert found.reason is reason
        assert words in found.message


def chat(rate: float) -> Marginals:
    """Long prompts among short ones, at `rate` requests per second."""
    generator = np.random.default_rng(4)
    prompts = log_uniform(generator, 4, 10, 20_000)
    outputs = log_uniform(generator, 4, 6.5, 20_000)
    seconds = len(prompts) / rate
    marginals = marginals_of(prompts, outputs)
    scale = SECONDS / seconds
    return replace(
        marginals,
        window_seconds=seconds,
        prompts=LengthHistogram(tuple((le, r * scale) for le, r in marginals.prompts.buckets)),
        outputs=LengthHistogram(tuple((le, r * scale) for le, r in marginals.outputs.buckets)),
    )


def test_the_comparison_prices_each_plan_under_each_dependence() -> None:
    found = compare(chat(60), MAX_LENGTH, profile("h100-8b"), 16)
    assert isinstance(found, Sensitivity)
    assert [one.dependence for one in found.outlooks] == list(Dependence)
    assert found.plan == found.outlooks[0].best
    for one in found.outlooks:
        assert one.regret_percent[one.dependence] == pytest.approx(0, abs=1e-6)
        assert all(one.regret_percent[other] > 1 for other in set(Dependence) - {one.dependence})
    assert len(found.plan.stages) > 1
    assert "so the plan takes them as independent" in found.sentence
    assert "if the longest prompts had the longest answers" in found.sentence
    assert "nan" not in found.sentence


def test_an_overload_under_another_dependence_is_said() -> None:
    found = compare(chat(75), MAX_LENGTH, profile("h100-8b"), 16)
    assert isinstance(found, Sensitivity)
    overloaded = [one for one in found.outlooks if one.overloads]
    assert Dependence.INDEPENDENT not in [one.dependence for one in overloaded]
    assert overloaded
    assert "a stage overloaded (load " in found.sentence


def test_one_stage_that_every_dependence_agrees_on_is_said_to_be_so() -> None:
    lengths = np.full(2000, 180.0)
    found = compare(marginals_of(lengths, lengths), MAX_LENGTH, profile("h100-8b"), 1)
    assert isinstance(found, Sensitivity)
    assert len(found.plan.stages) == 1
    assert found.sentence.endswith("one stage is best; so it is under either extreme.")
