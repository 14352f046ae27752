"""Which headers of a client reach an engine: these, on every leg, and no others.

vLLM reads more of them: `x-data-parallel-rank` and `x-vllm-priority` are refused; `x-session-id`
and `endpoint-load-metrics-format` stay here, like everything that is not listed.
"""

import re
import secrets
from collections.abc import Mapping
from typing import Final

from cascade_policy.request_ids import plain

REQUEST_ID: Final = "x-request-id"
AS_WRITTEN: Final = ("authorization", "traceparent", "tracestate")
"""The engine's own API key, and the trace that a request belongs to."""
PASSED: Final = frozenset({*AS_WRITTEN, REQUEST_ID})

_VALUE: Final = re.compile(r"[\x20-\x7e]{1,8192}")

Headers = tuple[tuple[str, str], ...]


def request_id(headers: Mapping[str, str], named: object = None) -> str:
    """The id of a request: its header, else the `named` one of its body, else a new one.

    The same order as vLLM's, so that an engine's ids are what the client expects.
    """
    for identity in (headers.get(REQUEST_ID), named):
        if isinstance(identity, str) and identity:
            return plain(identity)
    return secrets.token_hex(16)


def passed_headers(headers: Mapping[str, str], identity: str) -> Headers:
    """What goes to the engine with each leg of a request."""
    written = [
        (name, headers[name])
        for name in AS_WRITTEN
        if name in headers and _VALUE.fullmatch(headers[name])
    ]
    return (*written, (REQUEST_ID, identity))


def passed_on(headers: Headers) -> Headers:
    """Of the headers that a front announces, those that an engine may see: what a target passes
    on does not depend on what it is sent."""
    return tuple(
        (name, value) for name, value in headers if name in PASSED and _VALUE.fullmatch(value)
    )
