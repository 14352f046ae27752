"""From a reading of Prometheus to the planner's traffic, and what to tell the user about it."""

import math
from dataclasses import dataclass, field
from typing import Final

from cascade_operator.observation import Finding
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_planner.histogram import LengthHistogram
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem

PROBLEMS: Final = {
    ProblemReason.NO_METRICS: Reason.METRICS_MISSING,
    ProblemReason.STALE_METRICS: Reason.METRICS_STALE,
    ProblemReason.MALFORMED_HISTOGRAM: Reason.METRICS_MALFORMED,
    ProblemReason.INCONSISTENT_HISTOGRAMS: Reason.METRICS_MALFORMED,
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

METRICS_READ: Final = Finding(True, Reason.METRICS_READ, "traffic was read from Prometheus")
NOT_ASKED_YET: Final = Finding(False, Reason.NOT_ASKED_YET, "Prometheus has not been asked yet")


@dataclass(frozen=True, slots=True)
class Reading:
    """The two length histograms as rates, the decode counter, and the age of the newest sample.

    `decoded` are (length up to which, tokens per second), not cumulative; empty without a counter.
    `age_seconds` is infinite without any sample.
    """

    prompts: LengthHistogram
    finals: LengthHistogram
    age_seconds: float
    decoded: LengthHistogram = field(default_factory=lambda: LengthHistogram(()))


def traffic_of(reading: Reading, spec: ServiceSpec) -> Traffic | TrafficProblem:
    """The traffic that the histograms show, or why they show none."""
    if reading.prompts.buckets and math.isinf(reading.age_seconds):
        return TrafficProblem(
            ProblemReason.STALE_METRICS,
            "Prometheus has old samples of this service, but scrapes no router at present",
        )
    return Traffic.from_histograms(
        reading.prompts,
        reading.finals,
        spec.max_length,
        decoded=reading.decoded.buckets,
        window_seconds=spec.planning.window_seconds,
        age_seconds=reading.age_seconds,
    )


def metrics_finding(traffic: Traffic | TrafficProblem) -> Finding:
    """The MetricsAvailable condition. Metrics that show no traffic are available."""
    if isinstance(traffic, TrafficProblem) and traffic.reason in PROBLEMS:
        return Finding(False, PROBLEMS[traffic.reason], traffic.message)
    return METRICS_READ
