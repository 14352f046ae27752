"""Placement inside the stage of the length, as a cascade with hard boundaries does it."""

from cascade_policy.candidates import whom_to_ask
from cascade_policy.stage_map import Boundaries
from cascade_simulator.policies.least_work import LeastWork
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Resident


class HardStages:
    """The instance of the stage with the least work; of the nearest stage where it has none."""

    def __init__(self, staging: Staging, least_work: LeastWork) -> None:
        self._staging = staging
        self._least_work = least_work

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance with the least work among those of the stage."""
        members = whom_to_ask(
            self._staging.alive(fleet),
            self._staging.map.stage_of(sequence.length),
            Boundaries.HARD,
            lambda _: 0,
            fleet.random,
        )
        return self._least_work.among(members, sequence, fleet)
