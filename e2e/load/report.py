"""What a replay found: counts and latencies, as records of JSON lines."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, Final

from e2e.load.answer_check import Difference

RECENT_SECONDS: Final = 10.0
MOST_EXAMPLES: Final = 10
LENGTH_BUCKETS: Final = (0, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 131072, 10**9)
"""Bounds of the prompt lengths (tokens) that latency is told apart by."""

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one completed request, in ms, and when it ended, in seconds of the replay."""

    ended: float
    prompt_tokens: int
    output_tokens: int
    ttft: float | None
    """To the first token; None for an unstreamed answer."""
    tpot: float | None
    """Per token after the first; None for an unstreamed answer or a single token."""
    e2e: float
    measured: bool
    """Whether it counts for the summary: not sent during the ramp."""


def figures(values: Sequence[float], percentiles: Iterable[int] = (50, 90, 99)) -> JsonObject:
    """Mean and percentiles (nearest rank), rounded to 0.01; zeros when there is no value."""
    ordered = sorted(values)
    count = len(ordered)
    found = {"mean": sum(ordered) / count if count else 0.0}
    for percentile in percentiles:
        rank = max(-(-count * percentile // 100), 1)
        found[f"p{percentile}"] = ordered[rank - 1] if count else 0.0
    return {name: round(value, 2) for name, value in found.items()}


def latency(timings: Iterable[Timing], percentiles: Iterable[int] = (50, 90, 99)) -> JsonObject:
    """{ttft, tpot, e2e}, each in ms."""
    rows, percentiles = list(timings), tuple(percentiles)
    return {
        "ttft": figures([row.ttft for row in rows if row.ttft is not None], percentiles),
        "tpot": figures([row.tpot for row in rows if row.tpot is not None], percentiles),
        "e2e": figures([row.e2e for row in rows], percentiles),
    }


@dataclass
class Report:
    """Counts as they grow. Times in seconds of the replay."""

    sent: int = 0
    retries: int = 0
    skipped: int = 0
    """Requests of the trace that are longer than the model takes."""
    handovers: int = 0
    handovers_up: int = 0
    handed_over: int = 0
    """Requests that were handed over at least once."""
    wrong: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    timings: list[Timing] = field(default_factory=list)
    send_lags: list[float] = field(default_factory=list)
    """How much later than planned each request was sent, in ms."""
    _recent: deque[Timing] = field(default_factory=deque)
    _wrong_examples: list[JsonObject] = field(default_factory=list)
    _lost_examples: list[JsonObject] = field(default_factory=list)

    @property
    def completed(self) -> int:
        """Requests whose whole answer came, right or wrong."""
        return len(self.timings)

    @property
    def in_flight(self) -> int:
        """Requests sent that have neither completed nor been lost."""
        return self.sent - self.completed - self.lost.total()

    def note_completed(self, timing: Timing) -> None:
        """A whole answer came."""
        self.timings.append(timing)
        self._recent.append(timing)

    def note_lost(self, index: int, kind: str, reason: str, detail: str) -> None:
        """No whole answer came; equal reasons are counted together."""
        self.lost[reason] += 1
        if len(self._lost_examples) < MOST_EXAMPLES:
            self._lost_examples.append({"request": index, "kind": kind, "detail": detail})

    def note_wrong(self, index: int, kind: str, difference: Difference) -> None:
        """An answer differs from what it must be."""
        self.wrong += 1
        if len(self._wrong_examples) < MOST_EXAMPLES:
            example = {"request": index, "kind": kind, **asdict(difference)}
            self._wrong_examples.append(example)

    def note_handovers(self, count: int, up: int = 0) -> None:
        """One request was handed over `count` times, `up` of them to a stage of longer ones."""
        self.handovers += count
        self.handovers_up += up
        self.handed_over += count > 0

    def progress(self, elapsed: float) -> JsonObject:
        """The record of each second; its latency is that of the last RECENT_SECONDS."""
        while self._recent and self._recent[0].ended < elapsed - RECENT_SECONDS:
            self._recent.popleft()
        return {
            "kind": "progress",
            "elapsed": round(elapsed, 1),
            "sent": self.sent,
            "completed": self.completed,
            "lost": self.lost.total(),
            "wrong": self.wrong,
            "inFlight": self.in_flight,
            "handovers": self.handovers,
            "handoversToLongerStages": self.handovers_up,
            "retries": self.retries,
            "latency": latency(self._recent, (50, 99)) if self._recent else {},
        }

    def summary(self) -> JsonObject:
        """The last record."""
        measured = [row for row in self.timings if row.measured]
        return {
            "kind": "summary",
            "requestsSent": self.sent,
            "requestsCompleted": self.completed,
            "requestsLost": self.lost.total(),
            "requestsSkipped": self.skipped,
            "lostReasons": dict(self.lost),
            "lostExamples": self._lost_examples,
            "streamsCompared": self.completed,
            "streamsWrong": self.wrong,
            "wrongExamples": self._wrong_examples,
            "handovers": self.handovers,
            "handoversToLongerStages": self.handovers_up,
            "handedOverRequests": self.handed_over,
            "retries": self.retries,
            "requestsMeasured": len(measured),
            "latency": latency(measured),
            "latencyByPromptTokens": _by_length(measured),
            "tokens": {
                "prompt": sum(row.prompt_tokens for row in self.timings),
                "output": sum(row.output_tokens for row in self.timings),
            },
            "sendLag": figures(self.send_lags),
        }


def _by_length(timings: Sequence[Timing]) -> list[JsonObject]:
    buckets = []
    for low, high in pairwise(LENGTH_BUCKETS):
        rows = [row for row in timings if low < row.prompt_tokens <= high]
        if rows:
            bucket = {"above": low, "upTo": high, "requests": len(rows), **latency(rows)}
            buckets.append(bucket)
    return buckets
