"""The fast loop: boundaries alone follow the traffic, by the planner's own objective."""

from collections.abc import Iterable

from cascade_planner.plan import PlanOptions
from cascade_planner.refine import refine
from cascade_planner.traffic import TrafficProblem
from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move


class Refining:
    """Moves the boundaries to what `refine` finds for the traffic of a short window."""

    def __init__(self, setup: Setup, staging: Staging, observations: Observations) -> None:
        self._setup = setup
        self._staging = staging
        self._observations = observations
        self._options = PlanOptions(crossing=setup.crossing)

    @property
    def interval_ms(self) -> float:
        """Time between two steps."""
        return 1000 * self._setup.refine_seconds

    def run(self, fleet: Fleet) -> Iterable[Move]:
        """One step; no sequence is moved."""
        setup, staging = self._setup, self._staging
        traffic = self._observations.traffic(fleet.now_ms, setup.refine_window_seconds)
        if isinstance(traffic, TrafficProblem):
            return ()
        refined = refine(
            staging.partition, traffic, setup.engine, setup.objective, self._options
        ).partition
        if refined != staging.partition:
            staging.move_boundaries(refined)
        return ()
