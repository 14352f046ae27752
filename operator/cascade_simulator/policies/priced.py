"""Placement by the router's own price."""

from collections.abc import Callable

from cascade_policy.bids import bids
from cascade_policy.price import expected_remaining, pick
from cascade_policy.stage_map import StageMap
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Resident

Remaining = Callable[[Resident, StageMap], float]
"""Output tokens still to come of a sequence, as far as a policy can tell."""


def expected(sequence: Resident, stage_map: StageMap) -> float:
    """What the stage map expects at this length."""
    return expected_remaining(stage_map, sequence.length, None)


def foreseen(sequence: Resident, stage_map: StageMap) -> float:  # noqa: ARG001
    """What really is to come: only an oracle knows."""
    return float(sequence.request.output - sequence.generated)


class Priced:
    """Asks whom the plan names, takes the cheapest: by the functions that a router calls."""

    def __init__(self, staging: Staging, *, prefix: bool, remaining: Remaining = expected) -> None:
        self._staging = staging
        self._prefix = prefix
        self._remaining = remaining

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance that `pick` chooses among the bids."""
        stage_map = self._staging.map
        candidates = self._staging.candidates(sequence, fleet, prefix=self._prefix)
        remaining = self._remaining(sequence, stage_map)
        choice = pick(
            bids(candidates, sequence.length, remaining, stage_map),
            stage_map.stage_of(sequence.length),
            stage_map.boundaries,
            stage_map.bias,
            fleet.random(),
        )
        return None if choice is None else int(choice.instance)
