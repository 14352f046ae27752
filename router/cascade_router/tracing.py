"""What tracing is to the rest of the router: three calls a request, and one a leg.

The work is done by `otlp`, which is imported only where an endpoint is set: its libraries take
memory.
"""

from collections.abc import Mapping
from typing import Protocol

from cascade_router.config import Config, InvalidConfig
from cascade_router.passed import Headers
from cascade_router.record import LegRecord, RequestRecord


class Tracing(Protocol):
    """Tells a collector of requests and their legs."""

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> None:
        """A request has come, with these headers."""

    def headers(self, record: RequestRecord, leg: LegRecord | None, passed: Headers) -> Headers:
        """What goes to the engine: `passed`, with the span of the leg that begins (of the request,
        for what has no legs) as the parent of the engine's own."""

    def end(self, record: RequestRecord) -> None:
        """The request has ended."""

    async def close(self) -> None:
        """Send what is left, for a moment."""


class Untraced:
    """No tracing: what a client says about its trace is passed on as it is written."""

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> None:
        """Nothing."""

    def headers(
        self,
        record: RequestRecord,  # noqa: ARG002
        leg: LegRecord | None,  # noqa: ARG002
        passed: Headers,
    ) -> Headers:
        """As they are."""
        return passed

    def end(self, record: RequestRecord) -> None:
        """Nothing."""

    async def close(self) -> None:
        """Nothing."""


def tracing_of(config: Config) -> Tracing:
    """Tracing as it is configured. Raises InvalidConfig when its packages are missing."""
    if config.otlp_endpoint is None:
        return Untraced()
    try:
        from cascade_router.otlp import OtlpTracing
    except ImportError as error:
        raise InvalidConfig(
            f"an endpoint for traces is set, but {error.name} is not installed; install the "
            "extra `tracing`"
        ) from None
    return OtlpTracing(config, config.otlp_endpoint)
