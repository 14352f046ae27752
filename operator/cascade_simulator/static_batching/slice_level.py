"""Slice-level scheduling: a batch is served for one slice, what is unfinished is batched anew.

All requests wait in one pool. Each round empties it into batches and sends them to the queues of
the instances; after a slice the unfinished members come back and are prefilled again, with what
they have emitted appended to the prompt. KV caches are neither kept nor moved.
"""

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

from cascade_simulator.static_batching.batch import Batch, Task
from cascade_simulator.static_batching.batching import adaptive, fixed
from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.estimator import MemoryEstimator, TimeEstimator
from cascade_simulator.static_batching.offloading import max_min, round_robin
from cascade_simulator.static_batching.outcome import Ledger, StaticOutcome
from cascade_simulator.workload import Workload


class Batching(StrEnum):
    """How a round makes batches of the pool."""

    FIRST_COME = "first come"
    """Of a fixed size, in the order of entering the pool."""
    BY_LENGTH = "by length"
    """Of a fixed size, like lengths together."""
    ADAPTIVE = "adaptive"
    """Of the sizes that minimise the total estimate within the memory."""


class Offloading(StrEnum):
    """Which instance gets which batch."""

    ROUND_ROBIN = "round robin"
    MAX_MIN = "max-min"


@dataclass(frozen=True, slots=True)
class SliceScheduler:
    """One slice-level scheduler: what it knows, and which of its parts are at work."""

    name: str
    time: TimeEstimator
    memory: MemoryEstimator
    fixed_batch: int
    """Size of batches that are not adaptive."""
    batching: Batching
    offloading: Offloading
    slice_tokens: int
    round_ms: float
    """Gamma: least time between two rounds."""
    busy_share: float
    """lambda: share of the least loaded instance's outstanding work that the next round waits for
    beyond Gamma; 0 for rounds at a fixed interval."""

    def batches(self, pool: list[Task]) -> list[Batch]:
        """One round's batches of all tasks in `pool`."""
        if self.batching is Batching.FIRST_COME:
            return fixed(pool, self.fixed_batch, self.time, self.slice_tokens)
        ordered = sorted(pool, key=lambda task: task.length)
        if self.batching is Batching.BY_LENGTH:
            return fixed(ordered, self.fixed_batch, self.time, self.slice_tokens)
        return adaptive(ordered, self.time, self.memory, self.slice_tokens)

    def interval_ms(self, loads: list[float]) -> float:
        """Time to the next round, with the outstanding estimated work (ms) of each instance."""
        return max(self.busy_share * min(loads), self.round_ms)


def simulate_slices(
    workload: Workload, engine: BatchEngine, instances: int, scheduler: SliceScheduler
) -> StaticOutcome:
    """Serve `workload` on `instances` engines; runs until every request has finished."""
    cluster = _Cluster(workload, engine, instances, scheduler)
    round_ms = 0.0
    while cluster.unfinished:
        instance, returns_ms = cluster.next_return()
        if returns_ms <= round_ms:
            cluster.take_back(instance)
        else:
            cluster.start_round(round_ms)
            round_ms += scheduler.interval_ms(cluster.loads)
    return cluster.ledger.outcome(scheduler.name)


class _Cluster:
    """The pool, and instances with a queue of batches each."""

    def __init__(
        self, workload: Workload, engine: BatchEngine, instances: int, scheduler: SliceScheduler
    ) -> None:
        self.ledger = Ledger(workload, instances)
        self.loads = [0.0] * instances
        self.unfinished = len(workload.requests)
        self._requests = workload.requests
        self._engine = engine
        self._scheduler = scheduler
        self._arrived = 0
        self._pool: list[Task] = []
        self._queues: list[deque[Batch]] = [deque() for _ in range(instances)]
        self._returns_ms = [math.inf] * instances
        """When the batch at the head of each queue returns."""
        self._turn = 0

    def next_return(self) -> tuple[int, float]:
        """The instance whose batch returns first, and when (infinity: all idle)."""
        instance = min(range(len(self._queues)), key=self._returns_ms.__getitem__)
        return instance, self._returns_ms[instance]

    def take_back(self, instance: int) -> None:
        """The batch that `instance` serves returns; its next one starts."""
        now_ms = self._returns_ms[instance]
        batch = self._queues[instance].popleft()
        limit = self._scheduler.slice_tokens
        self.ledger.batch(batch, batch.steps(limit), limit, instance, now_ms)
        self.loads[instance] = max(0.0, self.loads[instance] - batch.estimate_ms)
        left = [task for task in batch.tasks if task.remaining]
        self._pool += left
        self.unfinished -= len(batch) - len(left)
        self._start_next(instance, now_ms)

    def start_round(self, now_ms: float) -> None:
        """Batch the pool and send the batches to the instances."""
        self._admit_arrivals(now_ms)
        batches = self._scheduler.batches(self._pool)
        self._pool = []
        if self._scheduler.offloading is Offloading.MAX_MIN:
            assignment = max_min(batches, self.loads)
        else:
            assignment = round_robin(batches, len(self._queues), self._turn)
            self._turn = (self._turn + len(batches)) % len(self._queues)
        for batch, instance in assignment:
            self.loads[instance] += batch.estimate_ms
            self._queues[instance].append(batch)
            if len(self._queues[instance]) == 1:
                self._start_next(instance, now_ms)

    def _admit_arrivals(self, now_ms: float) -> None:
        while self._arrived < len(self._requests):
            request = self._requests[self._arrived]
            if request.arrival_ms > now_ms:
                return
            self._pool.append(Task.of(self._arrived, request))
            self._arrived += 1

    def _start_next(self, instance: int, now_ms: float) -> None:
        if not self._queues[instance]:
            self._returns_ms[instance] = math.inf
            return
        batch = self._queues[instance][0]
        steps = batch.steps(self._scheduler.slice_tokens)
        self._returns_ms[instance] = now_ms + self._engine.serve_ms(len(batch), batch.length, steps)
