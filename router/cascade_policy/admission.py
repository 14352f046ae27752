"""Slice admission: who may start on an instance, so that its KV memory never runs out.

A sequence can grow by no more than one slice until the next decision about it, so the memory that
it needs until then is known. An instance takes only what fits beside what it has; the rest waits,
least slack first, and the one that has waited for too long holds a reservation.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad

WATERMARK: Final = 0.01
"""Share of its blocks that an engine keeps free itself when it starts a sequence."""
MARGIN: Final = 0.02
"""Share of the blocks that stays free beside that, for what the count of blocks cannot see."""
RUNNING_SLICES: Final = 2
"""Slices that what runs already is taken to grow by: nobody can tell it to wait at the end of the
one it is in. With one slice a cluster at twice its memory's capacity preempted 30 times in 1,200
requests, with two once, with four never but at a tenth less throughput; without admission 463."""
CAUTION_MS: Final = 60_000.0
"""After a preemption the margin is doubled for so long."""
RESERVE_AT: Final = 0.5
"""Share of its slack after which the head of the queue holds a reservation."""
MAX_RETRY_AFTER_SECONDS: Final = 60


class AdmissionReason(StrEnum):
    """Why a sequence may start or has to wait."""

    FITS = "fits"
    FULL_BATCH = "full-batch"
    """As many sequences as the engine runs at once."""
    NO_MEMORY = "no-memory"
    RESERVED = "reserved"
    """The room is kept for a sequence that has waited for longer."""
    TOO_LONG = "too-long"
    """It would not fit into the empty engine."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a sequence may start, and why."""

    admitted: bool
    reason: AdmissionReason
    message: str


@dataclass(frozen=True, slots=True)
class Room:
    """The memory of one instance, in KV blocks, and who is in it."""

    capacity: int
    """Blocks that sequences can have."""
    booked: int
    """Blocks that its sequences hold and may come to need."""
    sequences: int
    max_sequences: int
    margin: int
    """Blocks that stay free."""

    @property
    def free(self) -> int:
        """Blocks for further sequences; negative when more is booked than there is."""
        return self.capacity - self.booked - self.margin


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room kept on an instance for the head of the queue."""

    id: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request in the queue of a front. Times in ms of one clock."""

    id: int
    arrived_ms: float
    deadline_ms: float
    """When its first token is due."""
    work_ms: float
    """What its prefill takes at least."""

    def slack_ms(self, now_ms: float) -> float:
        """How long it can still wait and make its deadline."""
        return self.deadline_ms - self.work_ms - now_ms

    def holds_reservation(self, now_ms: float) -> bool:
        """Whether so much of its slack is spent that room is kept for it."""
        return self.slack_ms(now_ms) <= (1 - RESERVE_AT) * self.slack_ms(self.arrived_ms)


def blocks_needed(length: int, growth: int, block_tokens: int, shared_tokens: int = 0) -> int:
    """Blocks of a sequence of `length` tokens until it has grown by `growth`.

    Full blocks among the first `shared_tokens` belong to other sequences as well and are counted
    there. One token more than it holds must fit: the step that makes the last one writes it.
    """
    return -(-(length + growth + 1) // block_tokens) - shared_tokens // block_tokens


def room(
    load: InstanceLoad,
    model: EngineModel,
    growth: int,
    *,
    held_tokens: int | None = None,
    saved_blocks: int = 0,
    since_preemption_ms: float = math.inf,
    slices: int = RUNNING_SLICES,
) -> Room:
    """The room of an instance whose sequences grow by up to `growth` tokens in each of `slices`.

    `held_tokens` is what memory holds of them, less than their sum where they share prefixes.
    `saved_blocks` is what the engine's own gauge finds them to hold less than that. Half a block
    per sequence is empty on average; the margin holds the rest.
    """
    blocks = model.kv_capacity_tokens // model.block_tokens
    # One block of every engine is a placeholder that no sequence gets.
    capacity = max(0, blocks - 1 - math.ceil(WATERMARK * blocks))
    tokens = load.kv_tokens if held_tokens is None else held_tokens
    held = tokens / model.block_tokens + load.sequences / 2
    held = max(0.0, held - saved_blocks)
    growing = load.sequences * (slices * growth + 1)
    booked = math.ceil(held + growing / model.block_tokens)
    margin = math.ceil(MARGIN * blocks) + load.sequences // 2
    if since_preemption_ms < CAUTION_MS:
        margin *= 2
    return Room(capacity, booked, load.sequences, model.max_sequences, margin)


def admit(need: int, space: Room, reservation: Reservation | None = None) -> Admission:
    """Whether a sequence that needs `need` blocks may start.

    An empty instance takes whatever it can hold at all, margin or not. `reservation` is that of
    another sequence: what is admitted must leave room for it.
    """
    if need > space.capacity:
        return _wait(
            AdmissionReason.TOO_LONG, f"needs {need} blocks, the engine has {space.capacity}"
        )
    if reservation is not None and space.free - need < reservation.blocks:
        return _wait(
            AdmissionReason.RESERVED,
            f"{reservation.blocks} of {space.free} free blocks are kept for one that waits",
        )
    if space.sequences == 0:
        return Admission(True, AdmissionReason.FITS, "the engine is empty")
    if space.sequences >= space.max_sequences:
        return _wait(AdmissionReason.FULL_BATCH, f"{space.sequences} sequences run")
    if need > space.free:
        return _wait(AdmissionReason.NO_MEMORY, f"needs {need} blocks, {space.free} are free")
    return Admission(True, AdmissionReason.FITS, f"needs {need} of {space.free} free blocks")


def by_urgency(waiting: Iterable[Waiting], now_ms: float) -> list[Waiting]:
    """The queue in its order: the least slack first; of equal slack, who came first."""
    return sorted(waiting, key=lambda one: _urgency(one, now_ms))


def most_urgent(waiting: Iterable[Waiting], now_ms: float) -> Waiting:
    """The head of the queue."""
    return min(waiting, key=lambda one: _urgency(one, now_ms))


def _urgency(one: Waiting, now_ms: float) -> tuple[float, float, int]:
    return one.slack_ms(now_ms), one.arrived_ms, one.id


def retry_after_seconds(ahead: int, completed_per_second: float) -> int:
    """When a refused client should come back: `ahead` requests must be completed before.

    At least 1, at most MAX_RETRY_AFTER_SECONDS, which is also the answer when nothing completes.
    """
    if completed_per_second <= 0:
        return MAX_RETRY_AFTER_SECONDS
    return min(MAX_RETRY_AFTER_SECONDS, max(1, math.ceil(ahead / completed_per_second)))


def _wait(reason: AdmissionReason, message: str) -> Admission:
    return Admission(False, reason, message)
