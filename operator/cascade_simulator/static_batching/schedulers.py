"""The schedulers under comparison, by name."""

from dataclasses import dataclass
from typing import Final

from cascade_simulator.static_batching.engine import DEEPSPEED, BatchEngine
from cascade_simulator.static_batching.estimator import MemoryEstimator, profiled
from cascade_simulator.static_batching.iteration_level import simulate_iterations
from cascade_simulator.static_batching.outcome import StaticOutcome
from cascade_simulator.static_batching.sequence_level import simulate_sequences
from cascade_simulator.static_batching.slice_level import (
    Batching,
    Offloading,
    SliceScheduler,
    simulate_slices,
)
from cascade_simulator.workload import Workload

SCHEDULERS: Final = {
    "SLS": "static batches, first come first served, until the longest is done; round robin",
    "ILS": "continuous batching, as many sequences as fit at their longest; round robin",
    "ILS-paged": "continuous batching, as many sequences as fit now, with eviction; round robin",
    "SO": "SLS's batch size served slice by slice from one pool; round robin",
    "PM": "SO, and like lengths share a batch",
    "AB": "PM, and batch sizes are chosen by dynamic programming over the estimates",
    "LB": "AB, and the longest batch goes to the least loaded instance",
    "SCLS": "LB, and the time between rounds adapts to the load",
}
"""Names and what they do. SO, PM, AB, LB are steps on the way from SLS to SCLS."""

PAGED_SEQUENCES: Final = 256
"""Most sequences of an engine with a paged KV cache, a usual default."""

_PARTS: Final = {
    "SO": (Batching.FIRST_COME, Offloading.ROUND_ROBIN, 0.0),
    "PM": (Batching.BY_LENGTH, Offloading.ROUND_ROBIN, 0.0),
    "AB": (Batching.ADAPTIVE, Offloading.ROUND_ROBIN, 0.0),
    "LB": (Batching.ADAPTIVE, Offloading.MAX_MIN, 0.0),
    "SCLS": (Batching.ADAPTIVE, Offloading.MAX_MIN, 0.5),
}
"""What the slice-level schedulers have at work: batching, offloading, lambda."""


class UnknownScheduler(ValueError):
    """No scheduler of that name; the message lists the known ones."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the schedulers are run on, and what they are told. Lengths in tokens."""

    engine: BatchEngine = DEEPSPEED
    instances: int = 8
    prompt_limit: int = 1024
    output_limit: int = 1024
    slice_tokens: int = 128
    round_ms: float = 3000.0
    """Gamma."""
    batch_limit: int | None = None
    """Size of fixed batches, and most sequences of ILS; None: as many as fit into the memory if
    all of them were as long as the limits allow."""

    @property
    def memory(self) -> MemoryEstimator:
        """What fits into the engine's memory."""
        return MemoryEstimator(self.engine.kv_capacity_tokens)

    @property
    def safe_batch(self) -> int:
        """Sequences that never run out of memory, whatever their lengths."""
        if self.batch_limit is not None:
            return self.batch_limit
        return self.memory.largest_batch(self.prompt_limit, self.output_limit)

    def slice_scheduler(self, name: str) -> SliceScheduler:
        """SO, PM, AB, LB or SCLS."""
        batching, offloading, busy_share = _PARTS[name]
        return SliceScheduler(
            name=name,
            time=profiled(self.engine),
            memory=self.memory,
            fixed_batch=self.safe_batch,
            batching=batching,
            offloading=offloading,
            slice_tokens=self.slice_tokens,
            round_ms=self.round_ms,
            busy_share=busy_share,
        )


def simulate(name: str, workload: Workload, setting: Setting) -> StaticOutcome:
    """Run `workload` under the scheduler called `name`. Raises UnknownScheduler.

    Iteration-level scheduling brings its own engine, which is never slower than DEEPSPEED.
    """
    if name not in SCHEDULERS:
        raise UnknownScheduler(
            f"scheduler {name!r} is not known; use one of {', '.join(SCHEDULERS)}"
        )
    if name in _PARTS:
        scheduler = setting.slice_scheduler(name)
        return simulate_slices(workload, setting.engine, setting.instances, scheduler)
    if name == "SLS":
        return simulate_sequences(
            workload, setting.engine, setting.instances, setting.safe_batch, setting.output_limit
        )
    usable = int(setting.memory.usable * setting.engine.kv_capacity_tokens)
    most = setting.safe_batch if name == "ILS" else PAGED_SEQUENCES
    return simulate_iterations(workload, DEEPSPEED, setting.instances, most, usable, name)
