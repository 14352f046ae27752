"""Llumnix (OSDI '24): dispatch by freeness, and live migration from the fullest to the emptiest.

Freeness is free KV memory, after the demand of what waits, per request: how many steps are left
before memory runs out. Parameters are those of the maintained code: a check each 50 ms; an
instance gives when it has less than 3 blocks per request left, and takes when it has more; the
lowest is paired with the highest; the head of the queue goes first, then the shortest running
sequence; the KV cache is copied while the sequence runs; one migration at a time for each pair.
"""

from collections.abc import Iterable
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move, Resident, Transport

INTERVAL_MS: Final = 50.0
THRESHOLD_BLOCKS: Final = 3.0
"""Blocks per request below which an instance gives sequences away."""


def freeness(load: InstanceLoad, engine: EngineModel) -> float:
    """F: free KV blocks per request, the demand of queued ones subtracted; may be negative."""
    free = (engine.kv_capacity_tokens - load.kv_tokens) / engine.block_tokens
    return free / max(1, load.sequences)


class Freest:
    """Places where freeness is highest."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:  # noqa: ARG002
        """The instance with the highest freeness."""
        engine, instances = self._staging.map.engine, fleet.instances
        alive = (member.index for member in self._staging.alive(fleet))
        return max(alive, key=lambda i: freeness(instances[i].load, engine), default=None)


class Migration:
    """Moves sequences between instances whose freeness differs.

    The pair rule `defrag`, the default of the maintained code, acts only where memory runs out.
    With `balanced`, the other one, every pair exchanges when that brings their freeness closer
    without reversing it.
    """

    def __init__(self, staging: Staging, *, balanced: bool) -> None:
        self._staging = staging
        self._balanced = balanced
        self._under_way: dict[tuple[int, int], Resident] = {}

    @property
    def interval_ms(self) -> float:
        """Time between two checks."""
        return INTERVAL_MS

    def run(self, fleet: Fleet) -> Iterable[Move]:
        """At most one move for each pair of instances."""
        self._under_way = {pair: one for pair, one in self._under_way.items() if one.moving}
        moves = []
        for source, target in self._pairs(fleet):
            if (source, target) in self._under_way:
                continue
            sequence = self._sequence(source, target, fleet)
            if sequence is not None:
                self._under_way[source, target] = sequence
                moves.append(Move(sequence.id, target, Transport.COPY))
        return moves

    def _pairs(self, fleet: Fleet) -> list[tuple[int, int]]:
        """(source, target): the lowest freeness with the highest, and so on inwards."""
        engine = self._staging.map.engine
        free = {
            member.index: freeness(fleet.instances[member.index].load, engine)
            for member in self._staging.alive(fleet)
        }
        ascending = sorted(free, key=lambda index: free[index])
        pairs = zip(ascending, reversed(ascending), strict=True)
        if self._balanced:
            return [(low, high) for low, high in pairs if free[low] < free[high]]
        return [
            (low, high)
            for low, high in pairs
            if free[low] < THRESHOLD_BLOCKS and free[high] > THRESHOLD_BLOCKS
        ]

    def _sequence(self, source: int, target: int, fleet: Fleet) -> Resident | None:
        """The sequence to move: the head of the queue, or the shortest that runs."""
        waiting = fleet.waiting(source)
        running = fleet.running(source)
        chosen = waiting[0] if waiting else min(running, key=lambda r: r.length, default=None)
        if chosen is None:
            return None
        engine = self._staging.map.engine
        here, there = fleet.instances[source].load, fleet.instances[target].load
        gap = freeness(there, engine) - freeness(here, engine)
        left = freeness(here.minus(chosen.length), engine)
        after = freeness(there.plus(chosen.length), engine)
        fits = 0 <= after - left < gap if self._balanced else after > THRESHOLD_BLOCKS
        return chosen if fits else None
