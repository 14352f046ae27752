"""A policy put together: a placement, stages, a review of what runs, and loops."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move, Resident


class Placement(Protocol):
    """Who gets a sequence that arrives."""

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance; None when none is alive."""


class Reviewer(Protocol):
    """Whether a running sequence moves."""

    @property
    def slice_tokens(self) -> int:
        """Decoded tokens between two reviews."""

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """The move, or None when it stays."""


class Loop(Protocol):
    """Work that is done regularly."""

    @property
    def interval_ms(self) -> float:
        """Time between two runs."""

    def run(self, fleet: Fleet) -> Iterable[Move]:
        """Do it now."""


@dataclass(slots=True)
class Assembled:
    """The parts as one Policy."""

    name: str
    placement: Placement
    staging: Staging
    observations: Observations
    reviewer: Reviewer | None = None
    loops: Sequence[Loop] = ()
    _due_ms: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self._due_ms = [loop.interval_ms for loop in self.loops]

    @property
    def review_tokens(self) -> int | None:
        """Decoded tokens between two reviews of a sequence."""
        return None if self.reviewer is None else self.reviewer.slice_tokens

    @property
    def tick_ms(self) -> float | None:
        """Time between two ticks: the shortest interval of a loop."""
        return min((loop.interval_ms for loop in self.loops), default=None)

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance that gets it."""
        return self.placement.place(sequence, fleet)

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """Whether it moves."""
        return None if self.reviewer is None else self.reviewer.review(sequence, fleet)

    def tick(self, fleet: Fleet) -> Iterable[Move]:
        """Run the loops that are due."""
        moves: list[Move] = []
        for position, loop in enumerate(self.loops):
            if fleet.now_ms >= self._due_ms[position]:
                self._due_ms[position] = fleet.now_ms + loop.interval_ms
                moves.extend(loop.run(fleet))
        return moves

    def finished(self, sequence: Resident, fleet: Fleet) -> None:
        """Remember its lengths."""
        self.observations.finished(sequence, fleet.now_ms)

    def stages(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(greatest length of each stage, stage of each instance)."""
        return self.staging.described()
