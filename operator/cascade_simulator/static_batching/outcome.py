"""What a run gave, and the ledger that a run keeps."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cascade_simulator.static_batching.batch import Batch, Task, padding
from cascade_simulator.workload import Workload

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Counters:
    """What the instances did, in tokens unless said."""

    valid: int = 0
    """Emitted for a request that wanted them."""
    invalid: int = 0
    """Emitted for members of a batch that had already finished."""
    pad: int = 0
    """Prefilled only to make the prompts of a batch equally long."""
    prefilled: int = 0
    """All prefill, padding and repetitions included."""
    batches: int = 0
    """Batches served; with continuous batching each step is one."""
    members: int = 0
    """Their sizes, added up."""
    early_returns: int = 0
    """Batches that finished before their limit."""
    evictions: int = 0
    """Sequences that lost their KV cache because memory ran out (continuous batching)."""
    peak_kv_tokens: int = 0
    """Most KV cache that an instance held at a time, padding included."""


@dataclass(frozen=True, eq=False, slots=True)
class StaticOutcome:
    """One run. Arrays have a row per request in the order of the workload, times in ms."""

    scheduler: str
    workload: str
    arrival_ms: Floats
    end_ms: Floats
    """When the answer was returned as a whole; a batch returns all of its members together."""
    emitted: Ints
    """Tokens of the answer."""
    turns: Ints
    """Batches that served it: its number of slices."""
    instance_end_ms: Floats
    """Shape (instances,): when each instance finished its last work."""
    counters: Counters

    @property
    def response_ms(self) -> Floats:
        """From arrival to the whole answer."""
        times: Floats = self.end_ms - self.arrival_ms
        return times

    @property
    def requests_per_second(self) -> float:
        """Throughput until the last request has finished."""
        return len(self.end_ms) / float(self.end_ms.max()) * 1e3

    @property
    def tokens_per_second(self) -> float:
        """Valid tokens until the last request has finished."""
        return self.counters.valid / float(self.end_ms.max()) * 1e3

    @property
    def batch_size(self) -> float:
        """Mean size of a batch."""
        return self.counters.members / self.counters.batches

    @property
    def early_return_share(self) -> float:
        """Share of the batches that finished before their limit."""
        return self.counters.early_returns / self.counters.batches

    @property
    def completion_spread_ms(self) -> float:
        """Standard deviation of the times at which the instances finish their last work."""
        return float(self.instance_end_ms.std())


@dataclass(slots=True)
class Ledger:
    """Keeps what happens to the requests of a workload during a run."""

    workload: Workload
    instances: int
    counters: Counters = field(default_factory=Counters)
    end_ms: Floats = field(init=False)
    emitted: Ints = field(init=False)
    turns: Ints = field(init=False)
    instance_end_ms: Floats = field(init=False)

    def __post_init__(self) -> None:
        requests = len(self.workload.requests)
        self.end_ms = np.full(requests, np.nan)
        self.emitted = np.zeros(requests, dtype=np.int64)
        self.turns = np.zeros(requests, dtype=np.int64)
        self.instance_end_ms = np.zeros(self.instances)

    def batch(self, batch: Batch, steps: int, limit: int, instance: int, now_ms: float) -> None:
        """`batch` returned at `now_ms` after `steps` of `limit` steps; its tasks advance."""
        counters, size = self.counters, len(batch)
        counters.pad += padding(batch.tasks)
        counters.prefilled += size * batch.length
        counters.batches += 1
        counters.members += size
        counters.early_returns += steps < limit
        counters.peak_kv_tokens = max(counters.peak_kv_tokens, size * (batch.length + steps))
        for task in batch.tasks:
            self.turn(task, steps, now_ms)
        self.instance_end_ms[instance] = now_ms

    def turn(self, task: Task, steps: int, now_ms: float) -> None:
        """`task` leaves a batch at `now_ms` in which it was for `steps` steps; it advances."""
        emitted = task.advance(steps)
        self.counters.valid += emitted
        self.counters.invalid += steps - emitted
        self.emitted[task.id] += emitted
        self.turns[task.id] += 1
        if task.remaining == 0:
            self.end_ms[task.id] = now_ms

    def outcome(self, scheduler: str) -> StaticOutcome:
        """The finished run."""
        return StaticOutcome(
            scheduler=scheduler,
            workload=self.workload.name,
            arrival_ms=np.array([request.arrival_ms for request in self.workload.requests]),
            end_ms=self.end_ms,
            emitted=self.emitted,
            turns=self.turns,
            instance_end_ms=self.instance_end_ms,
            counters=self.counters,
        )
