"""What a run gave: a row per request, the load over time, and what was done."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Samples:
    """The cluster at regular moments; shapes (T,), (T, instances)."""

    time_ms: Floats
    sequences: Ints
    """B: sequences of each instance, queued ones included."""
    kv_use: Floats
    """Share of the KV cache in use."""
    prefill_share: Floats
    """sigma."""
    waiting_prefill_ms: Floats
    """W."""
    stage: Ints
    """The stage that each instance served then."""
    front_queue: Ints
    """(T,): requests that waited at the front."""


@dataclass(frozen=True, slots=True)
class StageChange:
    """The stages from a moment on."""

    time_ms: float
    ends: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counters:
    """What was done, in numbers; tokens unless said."""

    handovers: int = 0
    refused_handovers: int = 0
    """Moves that a policy wanted and the target had no room or transfer slot for."""
    recomputed: int = 0
    """Prefill tokens computed again because of hand-overs, preemptions and failures."""
    copied: int = 0
    prefilled: int = 0
    """Prefill tokens computed, all reasons."""
    prefix_hits: int = 0
    """Prompt tokens that were not computed because a prefix cache held them."""
    preemptions: int = 0
    rescues: int = 0
    """Sequences that went on elsewhere after their instance failed."""
    steps: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """One run. Arrays have a row per request of the workload, in its order; NaN = never happened.

    Times in ms since the start of the run.
    """

    policy: str
    workload: str
    instances: int
    arrival_ms: Floats
    prompt: Ints
    output: Ints
    first_token_ms: Floats
    end_ms: Floats
    handovers: Ints
    instance: Ints
    """The first instance of each request."""
    counters: Counters
    samples: Samples
    stage_changes: tuple[StageChange, ...] = ()
    handover_gap_ms: Floats = field(default_factory=lambda: np.zeros(0))
    """(H,): how long each hand-over kept a stream silent, from its last token at the source to
    the next one at the target."""

    @property
    def ttft_ms(self) -> Floats:
        """Time to first token."""
        times: Floats = self.first_token_ms - self.arrival_ms
        return times

    @property
    def tpot_ms(self) -> Floats:
        """Time per output token after the first; 0 for answers of one token."""
        times: Floats = (self.end_ms - self.first_token_ms) / np.maximum(self.output - 1, 1)
        return times

    @property
    def e2e_ms(self) -> Floats:
        """End-to-end time."""
        times: Floats = self.end_ms - self.arrival_ms
        return times

    @property
    def normalised_ms(self) -> Floats:
        """End-to-end time per output token."""
        times: Floats = self.e2e_ms / self.output
        return times
