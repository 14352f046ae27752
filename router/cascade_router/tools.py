"""What the sessions of one sidecar share."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from cascade_router import limits
from cascade_router.bans import Bans
from cascade_router.dispatch import Dispatcher
from cascade_router.engine_metrics import EngineMetrics
from cascade_router.exposition import Page
from cascade_router.handover import Mover
from cascade_router.measure import LengthGauge
from cascade_router.metrics import Metrics
from cascade_router.own_engine import OwnEngine
from cascade_router.peers import Peers
from cascade_router.record import RequestRecord
from cascade_router.tracing import Tracing, Untraced
from cascade_router.waiting import WaitingRoom

DEFAULT_SLICE_TOKENS = 64


class Running(Protocol):
    """A session, as far as the sidecar looks after it."""

    @property
    def record(self) -> RequestRecord:
        """What is known of its request so far."""

    @property
    def tokens(self) -> int:
        """Output tokens so far."""

    def view_changed(self) -> None:
        """Stages may have other ranges, and instances other stages."""

    def sweep(self, now: float) -> None:
        """Called about once a second."""


@dataclass(slots=True)
class Tools:
    """One set per sidecar, made by its wiring."""

    loop: asyncio.AbstractEventLoop
    name: str
    """Of this sidecar's pod."""
    peers: Peers
    own: OwnEngine
    bans: Bans
    dispatcher: Dispatcher
    waiting: WaitingRoom
    mover: Mover
    gauge: LengthGauge
    metrics: Metrics
    engine_metrics: EngineMetrics
    labels: Mapping[str, str]
    """On every sample of a metric, so that no scrape can mix two installs."""
    timing: limits.Timing
    tracing: Tracing = field(default_factory=Untraced)
    sessions: set[Running] = field(default_factory=set)
    observers: list[Callable[[RequestRecord], None]] = field(default_factory=list)
    """Who wants to know of each request when it has ended."""
    sequences: int = 0
    """Sequences that were named so far."""
    held_bytes: int = 0
    """What the requests that are served take of memory, their answers left out."""

    def new_sequence(self) -> str:
        """A name for a sequence that no other has."""
        self.sequences += 1
        return f"{self.name}/{self.sequences}"

    def metrics_page(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        page = Page(self.labels)
        self.metrics.render(page)
        self.engine_metrics.render(page)
        return page.text()

    def tell(self, record: RequestRecord) -> None:
        """A request has ended."""
        self.tracing.end(record)
        for observer in self.observers:
            observer(record)

    @property
    def event_limit(self) -> int:
        """Largest event of a stream, in bytes: the first one holds all ids of the prompt."""
        stage_map = self.dispatcher.view.stage_map
        longest = 0 if stage_map is None else stage_map.max_length
        return max(limits.MAX_EVENT_BYTES, limits.EVENT_BYTES_PER_TOKEN * longest)

    @property
    def slice_tokens(self) -> int:
        """Tokens between two reviews of a sequence that has outgrown its stage."""
        stage_map = self.dispatcher.view.stage_map
        return DEFAULT_SLICE_TOKENS if stage_map is None else stage_map.handoff.slice_tokens

    def prefill_seconds(self, length: int) -> float:
        """Patience with a prompt of `length` tokens: ten times its prefill alone."""
        stage_map = self.dispatcher.view.stage_map
        return 0.0 if stage_map is None else stage_map.engine.prefill_ms(length) / 100
