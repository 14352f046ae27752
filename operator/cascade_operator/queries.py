"""Every question that the operator asks Prometheus, with what it is needed for.

All are scoped by the namespace and the service that the routers put on their metrics themselves,
so that no scrape configuration can mix two installs. Where one Prometheus holds several clusters,
the labels by which it knows this one are added.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cascade_policy import names
from cascade_prometheus.selectors import quoted

DECODE_LABEL: Final = "le_length"
"""Label of the decode counter: the upper end of the bucket, in tokens."""
TARGET_LABEL: Final = "instance"
"""Label that Prometheus gives to each target it scrapes: host and port, if nobody changed it."""
POD_LABEL: Final = "pod"
"""Label that most scrape configurations add: targets differ where `instance` is that of a node."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose series are asked for; `labels` are further ones that all of them carry."""

    namespace: str
    service: str
    labels: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """As it stands between the braces of a selector."""
        pairs = {**self.labels, "namespace": self.namespace, "service": self.service}
        return ",".join(f'{name}="{quoted(value)}"' for name, value in pairs.items())


def prompt_lengths(scope: Scope, window_seconds: int) -> str:
    """Requests per second by prompt length, one cumulative value per bucket: what arrives.

    Needs cascade_request_prompt_tokens_bucket with `le`, all buckets of it, +Inf above all.
    """
    return _histogram(names.METRIC_PROMPT_TOKENS, scope, window_seconds)


def final_lengths(scope: Scope, window_seconds: int) -> str:
    """The same requests by the length at which they ended: with the former, what is decoded.

    Needs cascade_request_final_tokens_bucket with `le`, of the same pods as the prompts'.
    """
    return _histogram(names.METRIC_FINAL_TOKENS, scope, window_seconds)


def decoded_lengths(scope: Scope, window_seconds: int) -> str:
    """Tokens decoded per second by sequence length, one value per bucket, not cumulative.

    Needs cascade_decode_tokens_total with `le_length`. It sees sequences while they run, which the
    histograms count when they end. Without it, or where it contradicts them, what is decoded is
    derived from the histograms.
    """
    rate = f"rate({names.METRIC_DECODE_TOKENS}{{{scope}}}[{window_seconds}s])"
    return f"sum by ({DECODE_LABEL}) ({rate})"


def completed_seconds(scope: Scope, window_seconds: int) -> str:
    """Seconds per second that completed requests took from their arrival to their end: with
    `completed_requests` the mean, by which a plan is reviewed after it was adopted.

    Needs cascade_request_seconds_sum, which a router has from its first completed request on.
    """
    return _rate(f"{names.METRIC_E2E_SECONDS}_sum", scope, window_seconds)


def completed_requests(scope: Scope, window_seconds: int) -> str:
    """Completed requests per second: the same ones that `completed_seconds` adds up.

    Needs cascade_request_seconds_count, which a router has from its first completed request on.
    """
    return _rate(f"{names.METRIC_E2E_SECONDS}_count", scope, window_seconds)


def sample_age(scope: Scope) -> str:
    """Seconds since the newest sample: a plan from metrics that stand still would be a guess.

    Needs cascade_request_prompt_tokens_count, which every router has from its start on. Both
    times are those of Prometheus, so the operator's clock does not matter.
    """
    return f"time() - max(timestamp({names.METRIC_PROMPT_TOKENS}_count{{{scope}}}))"


def series_of_targets(scope: Scope) -> str:
    """How many series each router has, one value per router that is scraped.

    Needs cascade_request_prompt_tokens_count with `instance`, and `pod` where there is one;
    without the former, as after an aggregation, nothing is said. Fewer values than routers: some
    are not scraped. More than one series: the router is counted more than once.
    """
    series = f'{names.METRIC_PROMPT_TOKENS}_count{{{scope},{TARGET_LABEL}!=""}}'
    return f"count by ({TARGET_LABEL}, {POD_LABEL}) ({series})"


def _rate(metric: str, scope: Scope, window_seconds: int) -> str:
    return f"sum(rate({metric}{{{scope}}}[{window_seconds}s]))"


def _histogram(metric: str, scope: Scope, window_seconds: int) -> str:
    return f"sum by (le) (rate({metric}_bucket{{{scope}}}[{window_seconds}s]))"
