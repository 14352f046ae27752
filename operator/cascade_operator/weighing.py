"""One look at the traffic: the best plan there is for it, and what the planner says of a change."""

from dataclasses import dataclass, replace

from cascade_operator.plans import PlanRecord, TrafficSummary, stages_of
from cascade_operator.spec import ServiceSpec
from cascade_operator.times import timestamp
from cascade_operator.traffic import Latency
from cascade_planner import hysteresis
from cascade_planner.explain import describe, explain
from cascade_planner.forecast import Forecast, mean_forecast
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import Plan, PlanOptions, solve
from cascade_planner.pricing import Pricing
from cascade_planner.refine import Refinement, refine
from cascade_planner.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Weighing:
    """The best plan found at `now` (unix seconds), and the traffic that it was found for."""

    spec: ServiceSpec
    traffic: Traffic
    latency: Latency | None
    """What the requests of that traffic measured."""
    best: Plan
    now: float

    @classmethod
    def of(
        cls,
        plan: PlanRecord,
        traffic: Traffic,
        spec: ServiceSpec,
        now: float,
        latency: Latency | None,
    ) -> "Weighing":
        """Search for the best plan in place of `plan`."""
        best = solve(
            traffic,
            spec.planning.engine_model,
            spec.instances,
            objective_of(spec),
            options_of(spec),
            plan.partition,
        )
        return cls(spec, traffic, latency, best, now)

    def change_from(
        self,
        partition: Partition,
        *,
        last_change: float | None = None,
        min_gain_percent: float | None = None,
    ) -> hysteresis.Decision:
        """Whether the best plan is worth a change from `partition`; the spec's gain, unless given.

        Without `last_change` (unix seconds) there is no cooldown.
        """
        planning = self.spec.planning
        return hysteresis.decide(
            partition,
            self.best,
            self.traffic,
            planning.engine_model,
            self.spec.instances,
            now=self.now,
            last_change=last_change,
            min_gain_percent=(
                planning.min_gain_percent if min_gain_percent is None else min_gain_percent
            ),
            cooldown_seconds=planning.cooldown_seconds,
            objective=objective_of(self.spec),
            options=options_of(self.spec),
        )

    def predicted_e2e_ms(self, partition: Partition) -> float:
        """Mean end-to-end time of a request under `partition` and this traffic."""
        return forecast(self.traffic, self.spec, partition).e2e_ms

    def step_from(self, partition: Partition) -> Refinement:
        """Whether the ranges of `partition` are to move a step, with no instance moving."""
        return refine(
            partition,
            self.traffic,
            self.spec.planning.engine_model,
            objective_of(self.spec),
            options_of(self.spec),
        )

    def record(self, present: PlanRecord) -> PlanRecord:
        """The best plan as the operator keeps it, in place of `present`."""
        partition = self.best.partition
        return replace(
            self._of_this_traffic(present, partition),
            time=self.now,
            moved=self.now if partition.instances != present.counts else present.moved,
            gain_percent=round(self.best.gain_percent, 2),
            explanation=explain(self.best),
            proposal=None,
            trial=None,
        )

    def refined(self, present: PlanRecord, partition: Partition) -> PlanRecord:
        """`present` with the ranges of `partition`: as old as before, and no change of counts."""
        cost = _pricing(self.traffic, self.spec).cost(partition)
        one_stage = self.best.one_stage_cost
        gain = 100 * (1 - cost / one_stage)
        return replace(
            self._of_this_traffic(present, partition),
            gain_percent=round(gain, 2),
            explanation=(
                f"{describe(partition)}: the plan of {timestamp(present.time)}, whose ranges "
                f"followed the traffic; cost {cost:.4g}, {abs(gain):.1f} % "
                f"{'lower' if gain >= 0 else 'higher'} than with one stage ({one_stage:.4g})."
            ),
        )

    def _of_this_traffic(self, present: PlanRecord, partition: Partition) -> PlanRecord:
        summary = self.traffic.summary
        return replace(
            present,
            id=partition.id,
            stages=stages_of(partition),
            expected_remaining=tuple(
                (length, round(tokens, 1)) for length, tokens in self.traffic.expected_remaining
            ),
            traffic=TrafficSummary(
                requests_per_second=round(summary.requests_per_second, 4),
                prompt_tokens_mean=round(summary.prompt_mean, 1),
                output_tokens_mean=round(summary.output_mean, 1),
                window_seconds=self.spec.planning.window_seconds,
            ),
        )


def objective_of(spec: ServiceSpec) -> Objective:
    """What a plan is judged by."""
    return Objective(
        ttft_target_ms=float(spec.ttft_target_ms), tpot_target_ms=float(spec.tpot_target_ms)
    )


def options_of(spec: ServiceSpec) -> PlanOptions:
    """The limits of the search."""
    return PlanOptions(
        max_stages=spec.planning.max_stages, boundaries=spec.planning.boundaries or None
    )


def forecast(traffic: Traffic, spec: ServiceSpec, partition: Partition) -> Forecast:
    """What `partition` is predicted to bring under `traffic`, as it is and without safety."""
    return mean_forecast(*_pricing(traffic, spec).forecast(partition))


def _pricing(traffic: Traffic, spec: ServiceSpec) -> Pricing:
    return Pricing(traffic, spec.planning.engine_model, objective_of(spec))
