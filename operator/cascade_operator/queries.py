"""Every question that the operator asks Prometheus, with what it is needed for.

All are scoped by the namespace and the service that the routers put on their metrics themselves,
so that no scrape configuration can mix two installs.
"""

from typing import Final

from cascade_policy import names

DECODE_LABEL: Final = "le_length"
"""Label of the decode counter: the upper end of the bucket, in tokens."""


def prompt_lengths(namespace: str, service: str, window_seconds: int) -> str:
    """Requests per second by prompt length, one cumulative value per bucket: what arrives."""
    return _histogram(names.METRIC_PROMPT_TOKENS, namespace, service, window_seconds)


def final_lengths(namespace: str, service: str, window_seconds: int) -> str:
    """The same requests by the length at which they ended: with the former, what is decoded."""
    return _histogram(names.METRIC_FINAL_TOKENS, namespace, service, window_seconds)


def decoded_lengths(namespace: str, service: str, window_seconds: int) -> str:
    """Tokens decoded per second by sequence length, one value per bucket, not cumulative."""
    scope = _scope(namespace, service)
    rate = f"rate({names.METRIC_DECODE_TOKENS}{{{scope}}}[{window_seconds}s])"
    return f"sum by ({DECODE_LABEL}) ({rate})"


def sample_age(namespace: str, service: str) -> str:
    """Seconds since the newest sample: a plan from metrics that stand still would be a guess."""
    scope = _scope(namespace, service)
    return f"time() - max(timestamp({names.METRIC_PROMPT_TOKENS}_count{{{scope}}}))"


def _histogram(metric: str, namespace: str, service: str, window_seconds: int) -> str:
    scope = _scope(namespace, service)
    return f"sum by (le) (rate({metric}_bucket{{{scope}}}[{window_seconds}s]))"


def _scope(namespace: str, service: str) -> str:
    return f'namespace="{_quoted(namespace)}",service="{_quoted(service)}"'


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
