"""Policies that do as they are told, and engines whose times are easy to compute by hand."""

from collections.abc import Callable, Iterable
from itertools import count

import numpy as np

from cascade_policy.engine_model import EngineModel
from cascade_simulator.cluster import simulate
from cascade_simulator.options import RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policy import Fleet, Move, Policy, Resident
from cascade_simulator.workload import Request, Workload

MAX_LENGTH = 131_072

BY_HAND = EngineModel(
    base_ms=10.0,
    per_sequence_ms=1.0,
    per_kv_token_ms=0.01,
    heterogeneity=0.0,
    prefill_ms_per_token=0.1,
    prefill_ms_per_token_squared=0.0,
    chunk_tokens=100,
    kv_capacity_tokens=10_000,
    max_sequences=16,
    kv_bytes_per_token=1000,
)
"""A step takes 10 ms, 1 ms per sequence, 0.01 ms per KV token, 0.1 ms per token of prefill."""


class Scripted:
    """Places requests in turn unless told otherwise, and moves nothing unless told so."""

    name = "scripted"

    def __init__(
        self,
        instances: int,
        place: Callable[[Resident, Fleet], int | None] | None = None,
        review: Callable[[Resident, Fleet], Move | None] | None = None,
        review_tokens: int | None = None,
        tick: Callable[[Fleet], Iterable[Move]] | None = None,
        tick_ms: float | None = None,
    ) -> None:
        self.review_tokens = review_tokens
        self.tick_ms = tick_ms
        self.ended: list[int] = []
        self._instances = instances
        self._place = place
        self._review = review
        self._tick = tick
        self._turn = count()

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        if self._place is not None:
            return self._place(sequence, fleet)
        while True:
            instance = next(self._turn) % self._instances
            if fleet.instances[instance].alive:
                return instance

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        return None if self._review is None else self._review(sequence, fleet)

    def tick(self, fleet: Fleet) -> Iterable[Move]:
        return () if self._tick is None else self._tick(fleet)

    def finished(self, sequence: Resident, fleet: Fleet) -> None:
        assert sequence.generated == sequence.request.output
        assert fleet.now_ms >= sequence.request.arrival_ms
        self.ended.append(sequence.id)

    def stages(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (MAX_LENGTH,), (0,) * self._instances


def workload(*rows: tuple[float, int, int]) -> Workload:
    """From rows of (arrival ms, prompt, output)."""
    return Workload("by hand", tuple(Request(*row) for row in rows))


def run(
    work: Workload,
    policy: Policy | None = None,
    engine: EngineModel = BY_HAND,
    instances: int = 1,
    options: RunOptions | None = None,
) -> Outcome:
    """One run; without a policy, requests are placed in turn."""
    policy = policy or Scripted(instances)
    random = np.random.default_rng(1).random
    return simulate(work, engine, instances, policy, options or RunOptions(), random)
