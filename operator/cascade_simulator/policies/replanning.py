"""The slow loop: a new plan from the traffic of the past minutes, when it is worth changing to."""

from collections.abc import Iterable

from cascade_planner.hysteresis import Verdict, decide
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.traffic import TrafficProblem
from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move


class Replanning:
    """Plans as the operator does: window, solution, hysteresis; then all stages change at once.

    With `max_stages` 1 it only learns what output to expect at each length.
    """

    def __init__(
        self, setup: Setup, staging: Staging, observations: Observations, max_stages: int
    ) -> None:
        self._setup = setup
        self._staging = staging
        self._observations = observations
        self._options = PlanOptions(max_stages=max_stages, crossing=setup.crossing)
        self._changed: float | None = None  # seconds

    @property
    def interval_ms(self) -> float:
        """Time between two plans."""
        return 1000 * self._setup.replan_seconds

    def run(self, fleet: Fleet) -> Iterable[Move]:
        """Learn from the traffic and change the stages if that pays; no sequence is moved."""
        setup, staging, now = self._setup, self._staging, fleet.now_ms / 1000
        traffic = self._observations.traffic(fleet.now_ms, setup.window_seconds)
        if isinstance(traffic, TrafficProblem):
            return ()
        staging.learn(traffic)
        current = staging.partition
        plan = solve(
            traffic, setup.engine, setup.instances, setup.objective, self._options, current
        )
        decision = decide(
            current,
            plan,
            traffic,
            setup.engine,
            setup.instances,
            now=now,
            last_change=self._changed,
            min_gain_percent=setup.min_gain_percent,
            cooldown_seconds=setup.cooldown_seconds,
            objective=setup.objective,
            options=self._options,
        )
        if decision.verdict is Verdict.APPLY and plan.partition != current:
            if plan.partition.instances == current.instances:
                staging.move_boundaries(plan.partition)
            else:
                staging.apply(plan.partition, fleet)
            self._changed = now
        return ()
