"""Which instance gets which batch."""

from collections.abc import Sequence

from cascade_simulator.static_batching.batch import Batch

Assignment = list[tuple[Batch, int]]
"""Batches with their instances, in the order of sending."""


def round_robin(batches: Sequence[Batch], instances: int, first: int) -> Assignment:
    """One instance after the other, from `first` on."""
    return [(batch, (first + turn) % instances) for turn, batch in enumerate(batches)]


def max_min(batches: Sequence[Batch], loads: Sequence[float]) -> Assignment:
    """The longest estimate first, each to the instance with the least outstanding work (ms)."""
    outstanding = list(loads)
    assignment = []
    for batch in sorted(batches, key=lambda batch: -batch.estimate_ms):
        target = min(range(len(outstanding)), key=outstanding.__getitem__)
        outstanding[target] += batch.estimate_ms
        assignment.append((batch, target))
    return assignment
