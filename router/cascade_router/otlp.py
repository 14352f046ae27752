"""Spans of requests and legs, sent to an OpenTelemetry collector by OTLP over HTTP.

A batch is sent by a thread of its own. While the collector is away, spans wait in a queue that
drops the oldest. Nothing is done per token: a leg's span is begun with it, and all spans of a
request are ended when it has ended, with the times that its record holds.
"""

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cascade_router.config import Config
from cascade_router.outcomes import Outcome
from cascade_router.passed import Headers
from cascade_router.record import MAX_LEGS, LegOutcome, LegRecord, RequestRecord

MAX_SPANS: Final = 2048
"""That wait to be sent; a span has about a kilobyte."""
BATCH_SPANS: Final = 256
DELAY_SECONDS: Final = 2.0
"""Between two batches that are not full."""
EXPORT_SECONDS: Final = 5.0
CLOSE_SECONDS: Final = 2.0
"""How long the last spans may take when the router leaves."""
TRACES_PATH: Final = "/v1/traces"
_CONTEXT: Final = ("traceparent", "tracestate")

Attributes = dict[str, str | int | float | bool]


@dataclass(slots=True)
class _Trace:
    """The spans of one request. Both clocks at its beginning: wall in ns, the loop's in seconds."""

    span: Span
    wall_ns: int
    now: float
    legs: list[tuple[LegRecord, Span]] = field(default_factory=list)

    def at(self, now: float) -> int:
        """A time of the loop's clock as Unix time in nanoseconds."""
        return self.wall_ns + round((now - self.now) * 1e9)


class OtlpTracing:
    """See `tracing.Tracing`."""

    def __init__(self, config: Config, endpoint: str) -> None:
        self._exporter = OTLPSpanExporter(
            endpoint=endpoint.rstrip("/") + TRACES_PATH, timeout=EXPORT_SECONDS
        )
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MAX_SPANS,
            max_export_batch_size=BATCH_SPANS,
            schedule_delay_millis=DELAY_SECONDS * 1000,
        )
        resource = Resource.create(
            {
                "service.name": "cascade-router",
                "service.namespace": config.namespace,
                "service.instance.id": config.pod_name,
                "cascade.service": config.service,
            }
        )
        # Not closed by the interpreter's exit, which would wait for a collector that is away.
        provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(config.trace_ratio)),
            resource=resource,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer("cascade_router")
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> None:
        """Begin the span of a request, as part of the client's trace if it has one."""
        carrier = {name: headers[name] for name in _CONTEXT if name in headers}
        wall = time.time_ns()
        span = self._tracer.start_span(
            f"{record.method} {record.path or 'other'}",
            context=self._propagator.extract(carrier, Context()),
            kind=SpanKind.SERVER,
            start_time=wall,
        )
        if span.is_recording():
            record.trace = _Trace(span, wall, record.started)

    def headers(self, record: RequestRecord, leg: LegRecord | None, passed: Headers) -> Headers:
        """The headers for an engine; for a leg, its span begins."""
        known = record.trace
        if not isinstance(known, _Trace):
            return passed
        span = known.span
        if leg is not None and len(known.legs) < MAX_LEGS:
            span = self._tracer.start_span(
                f"leg {leg.purpose.value}",
                context=trace.set_span_in_context(known.span, Context()),
                kind=SpanKind.CLIENT,
                start_time=known.at(leg.started),
            )
            known.legs.append((leg, span))
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, trace.set_span_in_context(span, Context()))
        kept = [(name, value) for name, value in passed if name not in _CONTEXT]
        return (*kept, *carrier.items())

    def end(self, record: RequestRecord) -> None:
        """End all spans of a request."""
        known, record.trace = record.trace, None
        if not isinstance(known, _Trace):
            return
        ended = record.started + record.duration
        for leg, span in known.legs:
            span.set_attributes(_of_leg(leg))
            if leg.outcome is LegOutcome.LOST:
                span.set_status(Status(StatusCode.ERROR))
            span.end(known.at(ended if leg.ended is None else leg.ended))
        known.span.set_attributes(_of_request(record))
        if record.outcome is Outcome.FAILED:
            known.span.set_status(Status(StatusCode.ERROR))
        known.span.end(known.at(ended))

    async def close(self) -> None:
        """Send what is left, for a moment; a collector that is away delays nobody's exit."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)
        if closing.is_alive():
            # Wakes the sender from its pause between two tries; what is left is given up.
            self._exporter.shutdown()  # type: ignore[no-untyped-call]
            await asyncio.to_thread(closing.join, CLOSE_SECONDS)


def _of_leg(leg: LegRecord) -> Attributes:
    found: Attributes = {
        "cascade.instance": leg.instance,
        "cascade.stage": leg.stage,
        "cascade.purpose": leg.purpose.value,
        "cascade.length": leg.length,
        "cascade.tokens": leg.tokens,
        "cascade.outcome": leg.outcome.value,
    }
    if leg.gap is not None:
        found["cascade.gap_seconds"] = leg.gap
    return found


def _of_request(record: RequestRecord) -> Attributes:
    found: dict[str, str | int | float | bool | None] = {
        "http.request.method": record.method,
        "http.route": record.path,
        "http.response.status_code": record.status,
        "client.address": record.client or None,
        "gen_ai.usage.input_tokens": record.prompt_tokens,
        "gen_ai.usage.output_tokens": record.output_tokens,
        "cascade.request_id": record.request_id,
        "cascade.outcome": record.outcome.value,
        "cascade.streamed": record.streamed,
        "cascade.stage": record.stage,
        "cascade.instance": None if record.member is None else record.member.name,
        "cascade.legs": record.leg_count,
        "cascade.handovers": record.handovers,
        "cascade.rescues": record.rescues,
        "cascade.pinned": None if record.pin is None else record.pin.value,
        "cascade.wait_seconds": record.waited,
        "cascade.ttft_seconds": record.ttft,
    }
    return {name: value for name, value in found.items() if value is not None}
