"""What keeps histograms from being traffic to plan for: every check, with its limit."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from cascade_planner.arrays import Array
from cascade_planner.histogram import InconsistentHistogram, LengthHistogram, MalformedHistogram

MIN_REQUESTS: Final = 100
"""Requests that a window must hold: below that, a quantile of lengths is mostly noise."""
MAX_AGE_SECONDS: Final = 120.0
"""Eight missed scrapes of 15 s: older than that, the pool may look quite different."""
RATE_TOLERANCE: Final = 0.10
"""Share by which the two histograms may disagree about the number of requests."""
SHRINK_TOLERANCE: Final = 0.05
"""Share of requests that may seem to end shorter than they began, by sampling noise."""


class ProblemReason(StrEnum):
    """Why histograms give no traffic to plan for."""

    NO_METRICS = "NoMetrics"
    NO_TRAFFIC = "NoTraffic"
    TOO_FEW_REQUESTS = "TooFewRequests"
    STALE_METRICS = "StaleMetrics"
    MALFORMED_HISTOGRAM = "MalformedHistogram"
    INCONSISTENT_HISTOGRAMS = "InconsistentHistograms"
    PARTIAL_METRICS = "PartialMetrics"


@dataclass(frozen=True, slots=True)
class TrafficProblem:
    """The histograms cannot be planned on; `message` says what is wrong and what to do."""

    reason: ProblemReason
    message: str


def find_reading_problem(
    series: Mapping[str, LengthHistogram], window_seconds: float, age_seconds: float
) -> TrafficProblem | None:
    """Why these histograms, by what they count, were not read as they should be."""
    for name, histogram in series.items():
        if not histogram.buckets:
            return TrafficProblem(
                ProblemReason.NO_METRICS,
                f"there is no series of {name} lengths: check that Prometheus scrapes the pods",
            )
    if not 0 < window_seconds < np.inf:
        return TrafficProblem(
            ProblemReason.MALFORMED_HISTOGRAM,
            f"the lengths were counted within {window_seconds:g} s: give a window above 0 s",
        )
    if not 0 <= age_seconds <= MAX_AGE_SECONDS:
        return TrafficProblem(
            ProblemReason.STALE_METRICS,
            f"the newest sample is {age_seconds:.0f} s old, the limit is {MAX_AGE_SECONDS:.0f} s: "
            "check that Prometheus still scrapes the pods",
        )
    return None


def find_length_problem(prompts: Array, finals: Array, seconds: float) -> TrafficProblem | None:
    """Why these lengths of single requests (tokens), seen within `seconds`, are no traffic."""
    if prompts.shape != finals.shape:
        return TrafficProblem(
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            f"there are {prompts.size} prompt lengths and {finals.size} final lengths: give one of "
            "each for every request",
        )
    if not 0 < seconds < np.inf:
        return TrafficProblem(
            ProblemReason.MALFORMED_HISTOGRAM,
            f"the requests came within {seconds:g} s: a rate needs a time above 0 s",
        )
    odd = ~((prompts >= 0) & (finals >= 0) & np.isfinite(prompts) & np.isfinite(finals))
    if odd.any():
        first = int(np.argmax(odd))
        return TrafficProblem(
            ProblemReason.MALFORMED_HISTOGRAM,
            f"request {first + 1} has a prompt of {prompts[first]:g} tokens and ends at "
            f"{finals[first]:g}: leave out what has no length",
        )
    return None


def find_histogram_problem(
    series: Mapping[str, LengthHistogram], max_length: int
) -> TrafficProblem | None:
    """Which of these histograms contradicts itself or holds what is no rate."""
    for name, histogram in series.items():
        try:
            histogram.points(max_length)
        except MalformedHistogram as error:
            return TrafficProblem(ProblemReason.MALFORMED_HISTOGRAM, f"{name} lengths: {error}")
        except InconsistentHistogram as error:
            return TrafficProblem(ProblemReason.INCONSISTENT_HISTOGRAMS, f"{name} lengths: {error}")
    return None


def find_rate_problem(
    rates: Mapping[str, float], window_seconds: float, min_requests: float
) -> TrafficProblem | None:
    """Why these totals (requests per second, by what was counted) are not one usable traffic."""
    (name, rate), (other_name, other) = rates.items()
    most = max(rate, other)
    if most <= 0:
        return TrafficProblem(
            ProblemReason.NO_TRAFFIC,
            f"no request ended within the last {window_seconds:.0f} s: send some, or look further "
            "back",
        )
    if most * window_seconds < min_requests:
        return TrafficProblem(
            ProblemReason.TOO_FEW_REQUESTS,
            f"{most * window_seconds:.0f} requests within {window_seconds:.0f} s; a plan needs "
            f"{min_requests:.0f}: wait for more, or look further back",
        )
    if abs(rate - other) > RATE_TOLERANCE * most:
        return TrafficProblem(
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            f"{name} lengths count {rate:.4g} requests/s, {other_name} lengths {other:.4g}: both "
            "must come from the same pods and the same time",
        )
    return None


def find_shrinking(prompts: Array, finals: Array) -> TrafficProblem | None:
    """Whether requests seem to end shorter than they began; cumulative rates at equal lengths."""
    shrunk = float(np.max(finals / finals[-1] - prompts / prompts[-1]))
    if shrunk <= SHRINK_TOLERANCE:
        return None
    return TrafficProblem(
        ProblemReason.INCONSISTENT_HISTOGRAMS,
        f"{100 * shrunk:.0f} % of the requests seem to end shorter than their prompts: the two "
        "histograms do not describe the same requests; check that both are of the same pods, and "
        "that the second counts prompt and answer together",
    )
