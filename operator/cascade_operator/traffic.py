"""From a reading of Prometheus to the planner's traffic, and what to tell the user about it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from cascade_operator.finding import Finding
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_planner.histogram import LengthHistogram
from cascade_planner.problems import MAX_AGE_SECONDS
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem

PROBLEMS: Final = {
    ProblemReason.NO_METRICS: Reason.METRICS_MISSING,
    ProblemReason.STALE_METRICS: Reason.METRICS_STALE,
    ProblemReason.MALFORMED_HISTOGRAM: Reason.METRICS_MALFORMED,
    ProblemReason.INCONSISTENT_HISTOGRAMS: Reason.METRICS_MALFORMED,
    ProblemReason.PARTIAL_METRICS: Reason.METRICS_INCOMPLETE,
}
QUIET: Final = {
    ProblemReason.NO_TRAFFIC: (
        Reason.NO_TRAFFIC,
        "no request ended within the planning window: the partition stays as it is",
    ),
    ProblemReason.TOO_FEW_REQUESTS: (
        Reason.TOO_FEW_REQUESTS,
        "too few requests ended within the planning window: the partition stays as it is",
    ),
}
"""No fault of the metrics. The messages carry no counts, which would change with every pass."""

MIN_SCRAPED: Final = 0.75
"""Share of the running routers that must be scraped: what dispatch spreads evenly, a few missing
ones hardly change, but rates of half the traffic would be planned for as if they were all."""

METRICS_READ: Final = Finding(True, Reason.METRICS_READ, "traffic was read from Prometheus")
NOT_ASKED_YET: Final = Finding(False, Reason.NOT_ASKED_YET, "Prometheus has not been asked yet")


@dataclass(frozen=True, slots=True)
class Latency:
    """How long requests took that completed within the window, and how many these are."""

    mean_ms: float
    requests: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The two length histograms as rates, the decode counter, and the age of the newest sample.

    `decoded` are (length up to which, tokens per second), not cumulative; empty without a counter.
    `age_seconds` is infinite without any sample. `series_of_targets` has an entry for each router
    that is scraped: how often its requests are counted; empty where that is not known. `latency` is
    None where no request completed.
    """

    prompts: LengthHistogram
    finals: LengthHistogram
    age_seconds: float
    series_of_targets: tuple[int, ...] = ()
    decoded: LengthHistogram = field(default_factory=lambda: LengthHistogram(()))
    latency: Latency | None = None


def traffic_of(reading: Reading, spec: ServiceSpec, routers: int = 0) -> Traffic | TrafficProblem:
    """The traffic that the histograms show, or why they show none.

    `routers` run for long enough that Prometheus must know them.
    """
    problem = find_scrape_problem(reading.series_of_targets, routers)
    if problem is not None:
        return problem
    if reading.prompts.buckets and math.isinf(reading.age_seconds):
        return TrafficProblem(
            ProblemReason.STALE_METRICS,
            "Prometheus has old samples of this service, but scrapes no router at present",
        )
    if not reading.prompts.buckets and not math.isinf(reading.age_seconds):
        return _without_rates(reading.age_seconds, spec.planning.window_seconds)
    return Traffic.from_histograms(
        reading.prompts,
        reading.finals,
        spec.max_length,
        decoded=reading.decoded.buckets,
        window_seconds=spec.planning.window_seconds,
        age_seconds=reading.age_seconds,
    )


def _without_rates(age_seconds: float, window_seconds: int) -> TrafficProblem:
    """Why there are samples, but no rates: those need two samples within the window."""
    if age_seconds > MAX_AGE_SECONDS:
        return TrafficProblem(
            ProblemReason.STALE_METRICS,
            f"the newest sample is {age_seconds:.0f} s old: check that Prometheus still scrapes "
            "the routers, and its clock",
        )
    return TrafficProblem(
        ProblemReason.NO_METRICS,
        f"Prometheus has fewer than two samples within the last {window_seconds} s: wait for "
        "scrapes, or make spec.planning.windowSeconds a multiple of its scrape interval",
    )


def find_scrape_problem(series_of_targets: Sequence[int], routers: int) -> TrafficProblem | None:
    """Whether so many routers are left out, or counted twice, that rates are of another traffic."""
    if not series_of_targets:
        return None
    most = max(series_of_targets)
    if most > 1:
        return TrafficProblem(
            ProblemReason.INCONSISTENT_HISTOGRAMS,
            f"Prometheus has {most} series of one router, so its requests count {most} times: "
            "scrape it by one job, deduplicate replicas, or set the chart's prometheus.labels to "
            "those of one cluster and replica",
        )
    if len(series_of_targets) < MIN_SCRAPED * routers:
        return TrafficProblem(
            ProblemReason.PARTIAL_METRICS,
            f"Prometheus scrapes {len(series_of_targets)} routers of {routers}: check its targets, "
            "and that network rules let it reach port 8000 of every pod",
        )
    return None


def metrics_finding(traffic: Traffic | TrafficProblem) -> Finding:
    """The MetricsAvailable condition. Metrics that show no traffic are available."""
    if isinstance(traffic, TrafficProblem) and traffic.reason in PROBLEMS:
        return Finding(False, PROBLEMS[traffic.reason], traffic.message)
    return METRICS_READ
