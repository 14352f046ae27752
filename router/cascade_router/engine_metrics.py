"""Counters of one engine, as its router sees it: who came, its steps, its memory."""

from cascade_policy import names
from cascade_policy.arrival import Purpose
from cascade_policy.step_window import MOMENT_NAMES, Moments, Window
from cascade_router.exposition import Page


class EngineMetrics:
    """What a sidecar tells of its own engine."""

    def __init__(self) -> None:
        self._arrivals = dict.fromkeys(Purpose, 0)
        self._evictions = 0
        self._moments = Moments()

    def arrived(self, purpose: Purpose) -> None:
        """A request went to the engine, of a client's request or because of a hand-over."""
        self._arrivals[purpose] += 1

    def evicted(self) -> None:
        """A sequence was asked to leave before memory ran out."""
        self._evictions += 1

    def stepped(self, window: Window) -> None:
        """The engine ran steps, with these averages."""
        self._moments.add(
            window.steps,
            window.sequences,
            window.kv_tokens / 1000,
            window.prefill_tokens / 1000,
            window.step_ms,
        )

    def render(self, page: Page) -> None:
        """Write everything on `page`."""
        page.counter(
            names.METRIC_LEGS,
            "Requests that routers sent to this engine: the first leg of a client's request, a "
            "later one, or a warm-up for one. Its own metrics count all of them alike.",
            (({"purpose": purpose.value}, count) for purpose, count in self._arrivals.items()),
        )
        page.counter(
            names.METRIC_EVICTIONS,
            "Sequences that were asked to leave this engine before its memory ran out.",
            [({}, self._evictions)],
        )
        page.counter(
            names.METRIC_STEP_MOMENTS,
            "Sums over steps of this engine: of 1, decoding sequences (b), thousands of KV tokens "
            "(s), thousands of prompt tokens computed (p), milliseconds (t), and their products.",
            (({"moment": name}, getattr(self._moments, name)) for name in MOMENT_NAMES),
        )
