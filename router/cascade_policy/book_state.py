"""What is seen of an instance: what its engine says of itself, and what its book holds."""

from dataclasses import dataclass

from cascade_policy.load import InstanceLoad


@dataclass(frozen=True, slots=True)
class Gauges:
    """What an engine says of itself."""

    blocks: int
    block_tokens: int
    caching: bool
    """Whether it has a prefix cache."""
    use: float
    """Part of the KV cache in use, 0 to 1."""
    preemptions: int
    """Since its start."""


@dataclass(frozen=True, slots=True)
class BookState:
    """What a book holds, for a person to look at. Memory in blocks."""

    load: InstanceLoad
    block_tokens: int
    capacity_blocks: int
    booked_blocks: int
    free_blocks: int
    margin_blocks: int
    use: float
    """Part of the KV cache in use, 0 to 1."""
    caching: bool
    measured: bool
    """Whether the engine has told its gauges; else memory is that of the profile."""
    prefix_blocks: int
    prefix_tokens: int
    sequences_seen: int
    """Sequences of which is remembered how much the engine has computed."""
    warming: int
    reserved_blocks: int | None
    """Kept for a sequence that has waited for long."""
    reserved_seconds: float | None
    """How long that lasts if it is not renewed."""
