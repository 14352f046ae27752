"""How much a plan from marginals depends on what is assumed of prompts and answers together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cascade_planner.forecast import Forecast, mean_forecast
from cascade_planner.marginals import Dependence, Marginals
from cascade_planner.objective import Objective
from cascade_planner.plan import Plan, PlanOptions, solve
from cascade_planner.pricing import Pricing
from cascade_planner.problems import TrafficProblem
from cascade_planner.stage_cost import MAX_LOAD
from cascade_policy.engine_model import EngineModel

_IF: Final[Mapping[Dependence, str]] = {
    Dependence.INDEPENDENT: "as assumed",
    Dependence.COMONOTONE: "if the longest prompts had the longest answers",
    Dependence.COUNTERMONOTONE: "if the shortest prompts had the longest",
}


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would be if prompts and answers depended on each other in this way."""

    dependence: Dependence
    best: Plan
    """The best plan then."""
    regret_percent: Mapping[Dependence, float]
    """What the plan made for each dependence would cost then, above the best."""
    forecast: Forecast
    """Of the plan made for independence, then."""
    one_stage_forecast: Forecast

    @property
    def overloads(self) -> bool:
        """Whether a stage of the plan for independence would be overloaded."""
        return self.forecast.load > MAX_LOAD


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """The plan from marginals, and what becomes of it under each dependence."""

    outlooks: tuple[Outlook, ...]
    """One for each Dependence, in its order: independence first."""

    @property
    def plan(self) -> Plan:
        """The plan as if prompts and answers were independent."""
        return self.outlooks[0].best

    @property
    def sentence(self) -> str:
        """What is assumed, and how much it matters."""
        cases = "; ".join(f"{_worth(one)} {_IF[one.dependence]}" for one in self.outlooks)
        if len(self.plan.stages) == 1:
            return (
                "Two histograms do not say which answers belong to which prompts. Taken as "
                f"independent, one stage is best; {_alternatives(self.outlooks[1:])}."
            )
        return (
            "Two histograms do not say which answers belong to which prompts, so the plan takes "
            f"them as independent. Its mean E2E time against one stage: {cases}. On public traces "
            "such a plan was anything from as good as one that knows to worse than one stage: "
            "confirm it with a trace, or in Advisory mode."
        )


def compare(
    marginals: Marginals,
    max_length: int,
    engine: EngineModel,
    instances: int,
    objective: Objective | None = None,
    options: PlanOptions | None = None,
) -> Sensitivity | TrafficProblem:
    """Plan under each dependence, and price each plan under the others."""
    objective, options = objective or Objective(), options or PlanOptions()
    pricings: dict[Dependence, Pricing] = {}
    plans: dict[Dependence, Plan] = {}
    for dependence in Dependence:
        traffic = marginals.traffic(max_length, dependence)
        if isinstance(traffic, TrafficProblem):
            return traffic
        pricings[dependence] = Pricing(traffic, engine, objective, options.crossing)
        plans[dependence] = solve(traffic, engine, instances, objective, options)
    return Sensitivity(tuple(_outlook(one, pricings[one], plans) for one in Dependence))


def _outlook(dependence: Dependence, pricing: Pricing, plans: Mapping[Dependence, Plan]) -> Outlook:
    best = plans[dependence]
    costs = {other: pricing.cost(plan.partition) for other, plan in plans.items()}
    one_stage = best.best_by_stage_count[0].partition
    return Outlook(
        dependence,
        best,
        {other: max(0.0, 100 * (cost / best.cost - 1)) for other, cost in costs.items()},
        mean_forecast(*pricing.forecast(plans[Dependence.INDEPENDENT].partition)),
        mean_forecast(*pricing.forecast(one_stage)),
    )


def _worth(outlook: Outlook) -> str:
    if outlook.overloads:
        return f"a stage overloaded (load {outlook.forecast.load:.2f})"
    change = 100 * (outlook.forecast.e2e_ms / outlook.one_stage_forecast.e2e_ms - 1)
    return f"{change:+.1f} % (busiest stage at load {outlook.forecast.load:.2f})"


def _alternatives(outlooks: Sequence[Outlook]) -> str:
    parts = [
        f"{len(one.best.stages)} would cost {one.best.gain_percent:.1f} % less "
        f"{_IF[one.dependence]}"
        for one in outlooks
        if len(one.best.stages) > 1
    ]
    return ", and ".join(parts) or "so it is under either extreme"
