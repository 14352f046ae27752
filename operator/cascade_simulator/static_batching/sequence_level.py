"""Sequence-level scheduling: static batches, first come first served, until the longest is done."""

from collections import deque

from cascade_simulator.static_batching.batch import Batch, Task
from cascade_simulator.static_batching.engine import BatchEngine
from cascade_simulator.static_batching.outcome import Ledger, StaticOutcome
from cascade_simulator.workload import Workload


def simulate_sequences(
    workload: Workload,
    engine: BatchEngine,
    instances: int,
    batch_size: int,
    output_limit: int,
) -> StaticOutcome:
    """Serve `workload` on `instances` engines that get requests in turn.

    An idle instance takes up to `batch_size` waiting requests at once, whatever their lengths, and
    does not wait for more.
    """
    ledger = Ledger(workload, instances)
    for instance in range(instances):
        _serve(instance, ledger, engine, batch_size, output_limit)
    return ledger.outcome("SLS")


def _serve(instance: int, ledger: Ledger, engine: BatchEngine, batch_size: int, limit: int) -> None:
    requests = ledger.workload.requests
    waiting = deque(range(instance, len(requests), ledger.instances))
    now_ms = 0.0
    while waiting:
        now_ms = max(now_ms, requests[waiting[0]].arrival_ms)
        tasks: list[Task] = []
        while waiting and len(tasks) < batch_size and requests[waiting[0]].arrival_ms <= now_ms:
            id = waiting.popleft()
            tasks.append(Task.of(id, requests[id]))
        batch = Batch(tuple(tasks))
        steps = batch.steps(limit)
        now_ms += engine.serve_ms(len(batch), batch.length, steps)
        ledger.batch(batch, steps, limit, instance, now_ms)
