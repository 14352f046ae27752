"""Iteration-level scheduling: sequences join and leave a continuous batch at every step."""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from cascade_simulator.static_batching.batch import Task
from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.outcome import Ledger, StaticOutcome
from cascade_simulator.workload import Workload

HEADROOM_TOKENS: Final = 32
"""Tokens that every sequence must be able to grow by before another one joins: without it, whoever
was evicted would come back at once and be evicted again."""


def simulate_iterations(
    workload: Workload,
    engine: BatchEngine,
    instances: int,
    max_sequences: int,
    kv_tokens: int,
    name: str = "ILS",
) -> StaticOutcome:
    """Serve `workload` on `instances` engines that get requests in turn.

    An instance runs at most `max_sequences` at once, in `kv_tokens` of KV cache; when it is full,
    the newest sequence is evicted and computed again later. Nothing is padded. The prefill of those
    who join shares the step with the decodes, so that reading the weights is paid once.
    """
    ledger = Ledger(workload, instances)
    for instance in range(instances):
        _Instance(instance, ledger, engine, max_sequences, kv_tokens).run()
    return ledger.outcome(name)


@dataclass(slots=True)
class _Running:
    task: Task
    joined_step: int

    @property
    def last_step(self) -> int:
        return self.joined_step + self.task.remaining


class _Instance:
    """A continuous batch. The progress of a task is written down when it leaves the batch."""

    def __init__(
        self, index: int, ledger: Ledger, engine: BatchEngine, max_sequences: int, kv_tokens: int
    ) -> None:
        self._index = index
        self._ledger = ledger
        self._engine = engine
        self._max_sequences = max_sequences
        self._kv_tokens = kv_tokens
        self._requests = ledger.workload.requests
        self._waiting = deque(
            Task.of(id, self._requests[id])
            for id in range(index, len(self._requests), ledger.instances)
        )
        self._running: dict[int, _Running] = {}
        """By id, oldest first."""
        self._ends: list[tuple[int, int]] = []
        """(last step, id), a heap; entries of evicted sequences are skipped."""
        self._held = 0
        self._step = 0
        self._now_ms = 0.0

    def run(self) -> None:
        """Step until nothing is left."""
        while self._waiting or self._running:
            self._wait_for_work()
            self._evict()
            joined = self._join()
            self._decode(joined)
            self._leave()
        self._ledger.instance_end_ms[self._index] = self._now_ms

    def _wait_for_work(self) -> None:
        if not self._running:
            arrival_ms = self._requests[self._waiting[0].id].arrival_ms
            self._now_ms = max(self._now_ms, arrival_ms)

    def _evict(self) -> None:
        """Make room for the next token of everybody."""
        while len(self._running) > 1 and self._held + len(self._running) > self._kv_tokens:
            _, newest = self._running.popitem()
            self._write_down(newest)
            self._waiting.appendleft(newest.task)
            self._ledger.counters.evictions += 1

    def _join(self) -> list[Task]:
        """Sequences that the next step takes in, in the order of arrival."""
        joined: list[Task] = []
        while self._waiting and self._has_room(self._waiting[0]):
            task = self._waiting.popleft()
            self._running[task.id] = _Running(task, self._step)
            heappush(self._ends, (self._step + task.remaining, task.id))
            self._held += task.length
            joined.append(task)
        return joined

    def _has_room(self, task: Task) -> bool:
        running = len(self._running)
        if self._requests[task.id].arrival_ms > self._now_ms or running >= self._max_sequences:
            return False
        growth = HEADROOM_TOKENS * (running + 1)
        return not running or self._held + task.length + growth <= self._kv_tokens

    def _decode(self, joined: list[Task]) -> None:
        prompts = [task.length for task in joined]
        prefill = sum(prompts)
        running = len(self._running)
        self._step += 1
        self._held += running
        self._now_ms += self._engine.step_ms(
            running + prefill, self._held, sum(length * length for length in prompts)
        )
        counters = self._ledger.counters
        counters.prefilled += prefill
        counters.batches += 1
        counters.members += running
        counters.peak_kv_tokens = max(counters.peak_kv_tokens, self._held)

    def _leave(self) -> None:
        """Sequences that have emitted their last token return."""
        while self._ends and self._ends[0][0] <= self._step:
            last_step, id = heappop(self._ends)
            running = self._running.get(id)
            if running is not None and running.last_step == last_step:
                self._write_down(self._running.pop(id))

    def _write_down(self, leaving: _Running) -> None:
        self._ledger.turn(leaving.task, self._step - leaving.joined_step, self._now_ms)
        self._held -= leaving.task.length
