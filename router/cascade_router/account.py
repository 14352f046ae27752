"""What is counted about one request: its times, its tokens, and the changes of instance."""

from dataclasses import dataclass

from cascade_policy.stage_map import RECOMPUTE
from cascade_router.metrics import Metrics
from cascade_router.outcomes import HandoverOutcome, Outcome, RescueOutcome
from cascade_router.record import LegRecord, RequestRecord


@dataclass(slots=True)
class _Change:
    """A change of instance that is not complete until the new leg brings a token."""

    left_at: float
    rescue: bool
    transport: str = RECOMPUTE


class RequestAccount:
    """Times are seconds of one clock. Opened with a request, closed exactly once; what it counts
    goes into the metrics, and into the request's record."""

    def __init__(self, metrics: Metrics, record: RequestRecord) -> None:
        self._metrics = metrics
        self._record = record
        self._first_at: float | None = None
        self._last_at = record.started
        self._tokens_at_first = 0
        self._decoded_to: int | None = None
        self._change: _Change | None = None
        self._closed = False
        metrics.request_started()

    def first_tokens(self, leg: LegRecord, now: float, tokens: int) -> None:
        """A leg brought its first tokens; the answer has `tokens` of them now."""
        self._last_at = now
        if self._first_at is None:
            self._first_at = now
            self._tokens_at_first = tokens
        if self._change is not None:
            leg.gap = now - self._change.left_at
            self._complete_change(now)

    def last_tokens(self, at: float | None) -> None:
        """A leg is over; its last tokens came then, if it brought any."""
        if at is not None:
            self._last_at = at

    def decoded(self, prompt_tokens: int, tokens: int) -> None:
        """Count what was decoded since the last call by the length of the sequence."""
        start = prompt_tokens if self._decoded_to is None else self._decoded_to
        end = prompt_tokens + tokens
        if end > start:
            self._metrics.decoded(start, end)
            self._decoded_to = end

    def handed_over(self, transport: str) -> None:
        """The sequence left its instance for another one."""
        self._change = _Change(self._last_at, rescue=False, transport=transport)

    def rescue_begun(self) -> None:
        """The sequence goes on elsewhere because its instance was lost."""
        self._record.rescues += 1
        self._change = _Change(self._last_at, rescue=True)

    def rescue_failed(self) -> None:
        """The sequence cannot go on."""
        self._change = None
        self._metrics.rescued(RescueOutcome.FAILED)

    def change_failed(self, outcome: HandoverOutcome) -> bool:
        """The new instance did not bring a token; whether that was a hand-over."""
        change, self._change = self._change, None
        if change is None or change.rescue:
            return False
        self._metrics.handover(outcome, change.transport)
        return True

    def close(self, outcome: Outcome, prompt_tokens: int | None, tokens: int, now: float) -> None:
        """The request ended. Harmless when called again."""
        if self._closed:
            return
        self._closed = True
        self.change_failed(HandoverOutcome.CANCELLED)
        if prompt_tokens is not None:
            self.decoded(prompt_tokens, tokens)
            if self._first_at is not None or tokens:
                self._metrics.prefilled(prompt_tokens, self._record.cached_tokens or 0)
        record, first, after = self._record, self._first_at, tokens - self._tokens_at_first
        record.end(outcome, now)
        record.prompt_tokens, record.output_tokens = prompt_tokens, tokens
        record.ttft = None if first is None else first - record.started
        record.tpot = None if first is None or after < 1 else (self._last_at - first) / after
        self._metrics.request_finished(
            outcome,
            prompt_tokens,
            None if prompt_tokens is None else prompt_tokens + tokens,
            record.stage,
            record.ttft,
            record.tpot,
            record.duration,
        )

    def _complete_change(self, now: float) -> None:
        change, self._change = self._change, None
        if change is None:
            return
        if change.rescue:
            self._metrics.rescued(RescueOutcome.COMPLETED)
        else:
            self._metrics.handover(HandoverOutcome.COMPLETED, change.transport)
            self._metrics.handover_gap(now - change.left_at, change.transport)
