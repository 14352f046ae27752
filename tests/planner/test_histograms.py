"""Histograms and lengths: what is understood, and what is refused."""

import math

import numpy as np
import pytest

from cascade_planner.histogram import LengthHistogram
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem
from cascade_policy.grid import length_grid

MAX_LENGTH = 4096
SECONDS = 600.0


def histogram(lengths: list[float], max_length: int = MAX_LENGTH) -> LengthHistogram:
    return LengthHistogram.of_lengths(lengths, SECONDS, max_length)


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
