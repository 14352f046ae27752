"""Counters of one sidecar, kept as plain integers and turned into text when Prometheus asks.

A library's labelled counter costs a microsecond per call, a list element a twentieth of that; the
sidecar counts tokens, so it keeps lists.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import Final

from cascade_policy import names
from cascade_policy.grid import length_grid
from cascade_policy.instance_book import RefusalReason
from cascade_policy.pins import Pin
from cascade_policy.stage_map import RECOMPUTE, WARM, StageMap
from cascade_router.exposition import Histogram, Page
from cascade_router.outcomes import HandoverOutcome, OfferOutcome, Outcome, RescueOutcome
from cascade_router.prefill_count import PrefillCount

TTFT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 60)
TPOT_BUCKETS: Final = (
    *(0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.065, 0.08, 0.1, 0.125, 0.15, 0.2, 0.3, 0.5, 1),
)
E2E_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 45, 60, 120, 300, 600)
WAIT_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)
OBJECTIVES: Final = ("ttft", "tpot")
SCRIPTS: Final = ("ascii", "mixed", "wide")
ERROR_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
TRANSPORTS: Final = (RECOMPUTE, WARM)
GAP_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 2, 5, 10)


class Metrics:
    """What a sidecar tells Prometheus. Every request_started needs exactly one request_finished."""

    def __init__(self) -> None:
        self._max_length = 0
        self._grid: tuple[int, ...] = ()
        self._prompt_tokens = Histogram(())
        self._final_tokens = Histogram(())
        self._decode_tokens: list[int] = []
        self._in_flight = 0
        self._requests = dict.fromkeys(Outcome, 0)
        self._pins = dict.fromkeys(Pin, 0)
        self._rescues = dict.fromkeys(RescueOutcome, 0)
        self._handovers: dict[tuple[str, str], int] = {
            (outcome.value, transport): 0 for outcome in HandoverOutcome for transport in TRANSPORTS
        }
        self._out_of_stage = 0
        self._gaps = {transport: Histogram(GAP_BUCKETS) for transport in TRANSPORTS}
        self._offers = dict.fromkeys(OfferOutcome, 0)
        self._waiting = 0
        self._waited = Histogram(WAIT_BUCKETS)
        self._turned_away = 0
        self._unauthorized = 0
        self._lines_dropped = 0
        self._refused = dict.fromkeys(RefusalReason, 0)
        self._objectives = {(name, met): 0 for name in OBJECTIVES for met in (True, False)}
        self._estimates = {script: Histogram(ERROR_BUCKETS) for script in SCRIPTS}
        self._cached_tokens = 0
        self._prefill: list[PrefillCount] = []
        self._stage_map: StageMap | None = None
        self._ttft: dict[int, Histogram] = {}
        self._tpot: dict[int, Histogram] = {}
        self._e2e: dict[int, Histogram] = {}

    def use(self, stage_map: StageMap) -> None:
        """Count by the lengths, the engine model and the targets of a stage map. A different
        greatest length starts the counts by length again."""
        self._stage_map = stage_map
        max_length = stage_map.max_length
        if max_length == self._max_length:
            return
        self._max_length = max_length
        self._grid = length_grid(max_length)
        self._prompt_tokens = Histogram(self._grid)
        self._final_tokens = Histogram(self._grid)
        self._decode_tokens = [0] * len(self._grid)
        self._prefill = [PrefillCount() for _ in self._grid]

    def request_started(self) -> None:
        """A client's request was read."""
        self._in_flight += 1

    def request_finished(
        self,
        outcome: Outcome,
        prompt_tokens: int | None,
        final_tokens: int | None,
        stage: int | None,
        ttft: float | None,
        tpot: float | None,
        e2e: float,
    ) -> None:
        """A client's request ended; lengths in tokens, times in seconds, None where unknown.

        `stage` is the one it entered at. Both lengths are observed together, at the end, so that
        the two histograms describe the same requests.
        """
        self._in_flight -= 1
        self._requests[outcome] += 1
        ran = outcome in (Outcome.COMPLETED, Outcome.CANCELLED)
        if ran and prompt_tokens is not None and final_tokens is not None and self._grid:
            self._prompt_tokens.observe(prompt_tokens)
            self._final_tokens.observe(final_tokens)
        self._judge(ttft, tpot)
        if stage is None:
            return
        if ttft is not None:
            self._of_stage(self._ttft, stage, TTFT_BUCKETS).observe(ttft)
        if tpot is not None:
            self._of_stage(self._tpot, stage, TPOT_BUCKETS).observe(tpot)
        if outcome is Outcome.COMPLETED:
            self._of_stage(self._e2e, stage, E2E_BUCKETS).observe(e2e)

    def prefilled(self, prompt_tokens: int, cached_tokens: int) -> None:
        """A prompt was computed, but for its first `cached_tokens`, which the engine held."""
        cached = min(prompt_tokens, cached_tokens)
        self._cached_tokens += cached
        if self._stage_map is None or not self._grid:
            return
        bucket = min(bisect_left(self._grid, prompt_tokens), len(self._grid) - 1)
        work = self._stage_map.engine.prefill_ms(prompt_tokens, cached) / 1000
        self._prefill[bucket].add(prompt_tokens - cached, work)

    def estimated(self, script: str, error: float) -> None:
        """The estimate of a prompt's length turned out to be off by this share of the truth."""
        self._estimates[script].observe(error)

    def decoded(self, start_length: int, end_length: int) -> None:
        """A sequence grew from `start_length` to `end_length`: one token at each length after the
        start, up to the end. Lengths beyond the maximum count in the last bucket."""
        grid = self._grid
        if end_length <= start_length or not grid:
            return
        counts, last = self._decode_tokens, len(grid) - 1
        bucket = min(bisect_left(grid, start_length + 1), last)
        while bucket < last and grid[bucket] < end_length:
            counts[bucket] += grid[bucket] - start_length
            start_length = grid[bucket]
            bucket += 1
        counts[bucket] += end_length - start_length

    def handover(self, outcome: HandoverOutcome, transport: str) -> None:
        """A hand-over ended."""
        self._handovers[outcome.value, transport] += 1

    def handover_gap(self, seconds: float, transport: str) -> None:
        """Time between the last token before a hand-over and the first one after it."""
        self._gaps[transport].observe(seconds)

    def asked(self, outcome: OfferOutcome, count: int = 1) -> None:
        """Instances were asked for an offer."""
        self._offers[outcome] += count

    def waiting(self, count: int) -> None:
        """So many requests wait for an instance with room."""
        self._waiting = count

    def waited(self, seconds: float) -> None:
        """A request left the queue, placed or not."""
        self._waited.observe(seconds)

    def turned_away(self) -> None:
        """A request was answered with 429, because the queue was full or it waited too long."""
        self._turned_away += 1

    def unauthorized(self) -> None:
        """A client was answered with 401. Its request counts nowhere else: it was not read."""
        self._unauthorized += 1

    def line_dropped(self) -> None:
        """The access log lost a line, because stdout does not take what is written."""
        self._lines_dropped += 1

    def refused(self, reason: str) -> None:
        """An instance's router declined a request of this front, which went on elsewhere."""
        if reason in self._refused:
            self._refused[RefusalReason(reason)] += 1

    def pinned(self, reason: Pin) -> None:
        """A request was pinned."""
        self._pins[reason] += 1

    def rescued(self, outcome: RescueOutcome) -> None:
        """A lost stream was continued elsewhere, or could not be."""
        self._rescues[outcome] += 1

    def out_of_stage(self) -> None:
        """A request was dispatched to an instance of another stage than its length's."""
        self._out_of_stage += 1

    @staticmethod
    def _of_stage(family: dict[int, Histogram], stage: int, bounds: tuple[float, ...]) -> Histogram:
        histogram = family.get(stage)
        if histogram is None:
            histogram = family[stage] = Histogram(bounds)
        return histogram

    def _judge(self, ttft: float | None, tpot: float | None) -> None:
        """Count whether a request met the service's targets."""
        plan = self._stage_map
        if plan is None:
            return
        if ttft is not None:
            self._objectives["ttft", ttft * 1000 <= plan.ttft_target_ms] += 1
        if tpot is not None:
            self._objectives["tpot", tpot * 1000 <= plan.tpot_target_ms] += 1

    def render(self, page: Page) -> None:
        """Write everything on `page`."""
        page.histogram(
            names.METRIC_PROMPT_TOKENS,
            "Prompt tokens of requests that ended.",
            [({}, self._prompt_tokens)],
        )
        page.histogram(
            names.METRIC_FINAL_TOKENS,
            "Prompt and output tokens of requests that ended.",
            [({}, self._final_tokens)],
        )
        page.counter(
            names.METRIC_DECODE_TOKENS,
            "Output tokens by the length of their sequence: above the next smaller le_length, up "
            "to this one. Not cumulative.",
            (
                ({"le_length": str(bound)}, count)
                for bound, count in zip(self._grid, self._decode_tokens, strict=True)
            ),
        )
        self._render_requests(page)
        self._render_placing(page)
        self._render_prompts(page)
        self._render_times(page)

    def _render_prompts(self, page: Page) -> None:
        by_length = [
            ({"le_prompt": str(bound)}, count)
            for bound, count in zip(self._grid, self._prefill, strict=True)
        ]
        for name, text, value in (
            (
                names.METRIC_PREFILL_TOKENS,
                "Prompt tokens that engines computed, cached ones left out.",
                PrefillCount.tokens_of,
            ),
            (
                names.METRIC_PREFILL_SECONDS,
                "What computing them takes by the engine model.",
                PrefillCount.seconds_of,
            ),
            (
                names.METRIC_PREFILL_SECONDS_SQUARED,
                "The sum of its squares over requests.",
                PrefillCount.squares_of,
            ),
        ):
            page.counter(
                name,
                f"{text} By prompt length: above the next smaller le_prompt, up to this one.",
                [(labels, value(count)) for labels, count in by_length],
            )
        page.counter(
            names.METRIC_CACHED_TOKENS,
            "Prompt tokens that engines held already, as they said or as routers believe.",
            [({}, self._cached_tokens)],
        )
        page.histogram(
            names.METRIC_ESTIMATE_ERROR,
            "Error of estimated prompt lengths, as a share of the true ones, by kind of script.",
            [({"script": script}, errors) for script, errors in self._estimates.items()],
        )

    def _render_requests(self, page: Page) -> None:
        """What became of requests."""
        page.gauge(
            names.METRIC_IN_FLIGHT, "Requests of clients that this sidecar serves.", self._in_flight
        )
        for name, text, label, counts in (
            (
                names.METRIC_REQUESTS,
                "Requests of clients by how they ended.",
                "outcome",
                self._requests.items(),
            ),
            (
                names.METRIC_PINS,
                "Requests that may not be handed over, by reason.",
                "reason",
                self._pins.items(),
            ),
            (
                names.METRIC_RESCUES,
                "Streams whose instance was lost, by whether they went on elsewhere.",
                "outcome",
                self._rescues.items(),
            ),
        ):
            _by_label(page, name, text, label, counts)
        page.counter(
            names.METRIC_HANDOVERS,
            "Hand-overs of running sequences by how they ended.",
            (
                ({"outcome": outcome, "transport": transport}, count)
                for (outcome, transport), count in self._handovers.items()
            ),
        )
        page.counter(
            names.METRIC_OBJECTIVES,
            "Requests by whether they met the target for time to first token or per token.",
            (
                ({"objective": name, "met": str(met).lower()}, count)
                for (name, met), count in self._objectives.items()
            ),
        )

    def _render_placing(self, page: Page) -> None:
        """How they found an instance, and who did not get in."""
        _by_label(
            page,
            names.METRIC_OFFERS,
            "Instances that this front asked for an offer, by what came of it.",
            "outcome",
            self._offers.items(),
        )
        _by_label(
            page,
            names.METRIC_REFUSALS,
            "Dispatches that the router of the chosen instance declined, by reason.",
            "reason",
            self._refused.items(),
        )
        page.gauge(
            names.METRIC_WAITING,
            "Requests that wait at this front for an instance with room.",
            self._waiting,
        )
        page.histogram(
            names.METRIC_WAIT_SECONDS,
            "Time in the queue, of requests that had to wait.",
            [({}, self._waited)],
        )
        for name, text, count in (
            (
                names.METRIC_OUT_OF_STAGE,
                "Requests dispatched to another stage than their length's.",
                self._out_of_stage,
            ),
            (
                names.METRIC_TURNED_AWAY,
                "Requests answered with 429: the queue was full, or they waited too long.",
                self._turned_away,
            ),
            (
                names.METRIC_UNAUTHORIZED,
                "Requests answered with 401, for want of a valid API key.",
                self._unauthorized,
            ),
            (
                names.METRIC_LINES_DROPPED,
                "Lines of the access log that were not written, because stdout was full.",
                self._lines_dropped,
            ),
        ):
            page.counter(name, text, [({}, count)])

    def _render_times(self, page: Page) -> None:
        for name, text, family in (
            (names.METRIC_TTFT_SECONDS, "Time to the first token, by entry stage.", self._ttft),
            (names.METRIC_TPOT_SECONDS, "Mean time between tokens, by entry stage.", self._tpot),
            (names.METRIC_E2E_SECONDS, "Time of completed requests, by entry stage.", self._e2e),
        ):
            page.histogram(
                name,
                text,
                [({"stage": str(stage)}, family[stage]) for stage in sorted(family)],
            )
        page.histogram(
            names.METRIC_HANDOVER_GAP_SECONDS,
            "Time between the last token before a hand-over and the first one after it.",
            [({"transport": transport}, gap) for transport, gap in self._gaps.items()],
        )


def _by_label(
    page: Page, name: str, text: str, label: str, counts: Iterable[tuple[str, int]]
) -> None:
    page.counter(name, text, (({label: str(value)}, count) for value, count in counts))
