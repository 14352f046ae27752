"""One look at the traffic: the best plan there is for it, and what the planner says of a change."""

from dataclasses import dataclass

from cascade_operator.plans import PlanRecord, TrafficSummary, stages_of
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import Latency
from cascade_planner import hysteresis
from cascade_planner.explain import explain
from cascade_planner.forecast import Forecast, mean_forecast
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import Plan, PlanOptions, solve
from cascade_planner.pricing import Pricing
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

    def record(self, present: PlanRecord) -> PlanRecord:
        """The best plan as the operator keeps it, in place of `present`."""
        summary, partition = self.traffic.summary, self.best.partition
        return PlanRecord(
            id=self.best.id,
            time=self.now,
            moved=self.now if partition.instances != present.counts else present.moved,
            stages=stages_of(partition),
            gain_percent=round(self.best.gain_percent, 2),
            explanation=explain(self.best),
            expected_remaining=tuple(
                (length, round(tokens, 1)) for length, tokens in self.traffic.expected_remaining
            ),
            traffic=TrafficSummary(
                requests_per_second=round(summary.requests_per_second, 4),
                prompt_tokens_mean=round(summary.prompt_mean, 1),
                output_tokens_mean=round(summary.output_mean, 1),
                window_seconds=self.spec.planning.window_seconds,
            ),
            approved=present.approved,
            penalty=present.penalty,
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
    pricing = Pricing(traffic, spec.planning.engine_model, objective_of(spec))
    return mean_forecast(*pricing.forecast(partition))
