"""A plan in sentences, for status, events and people."""

from collections.abc import Mapping
from typing import Final

from cascade_planner.partition import Partition
from cascade_planner.plan import Binding, Forecast, Plan

_BINDS: Final[Mapping[Binding, str]] = {
    Binding.STABILITY: "the load leaves no safety margin: more instances are needed",
    Binding.KV_CAPACITY: "the KV cache of a stage is full",
    Binding.MAX_SEQUENCES: "a stage runs as many sequences as its engines admit",
    Binding.TIME_TO_FIRST_TOKEN: "the time-to-first-token target is missed in a stage",
    Binding.TIME_PER_OUTPUT_TOKEN: "the time-per-output-token target is missed in a stage",
    Binding.MAX_STAGES: "maxStages allows no further stage",
    Binding.INSTANCES: "every stage has one instance, so none can be split",
    Binding.FIXED_BOUNDARIES: "the boundaries are set by hand",
}


def explain(plan: Plan) -> str:
    """Why these stages, against one stage and the runner-up, and what binds: a few sentences."""
    if plan.forecast is None or plan.one_stage_forecast is None:
        return f"{_stages(plan.partition)}. No traffic is known, so nothing is predicted."
    sentences = [_choice(plan, plan.forecast, plan.one_stage_forecast)]
    if plan.runner_up is not None:
        dearer = 100 * (plan.runner_up.cost / plan.cost - 1)
        sentences.append(
            f"Runner-up: {_stages(plan.runner_up.partition)}, at {abs(dearer):.1f} % "
            f"{'higher' if dearer >= 0 else 'lower'} cost."
        )
    if plan.binding:
        sentences.append(f"What binds: {'; '.join(_BINDS[one] for one in plan.binding)}.")
    return " ".join(sentences)


def _choice(plan: Plan, ours: Forecast, one_stage: Forecast) -> str:
    if len(plan.stages) == 1:
        return (
            f"{_stages(plan.partition)}: no split is predicted to pay for its smaller pools; "
            f"{_times(ours)}."
        )
    change = "lower" if plan.gain_percent >= 0 else "higher"
    return (
        f"{_stages(plan.partition)}: cost {plan.cost:.4g}, {abs(plan.gain_percent):.1f} % {change} "
        f"than with one stage ({plan.one_stage_cost:.4g}); predicted {_times(ours)}, with one "
        f"stage {_times(one_stage)}."
    )


def _times(forecast: Forecast) -> str:
    return (
        f"TTFT {forecast.ttft_ms:.0f} ms, TPOT {forecast.tpot_ms:.1f} ms, "
        f"E2E {forecast.e2e_ms / 1000:.2f} s, load {forecast.load:.2f}"
    )


def _stages(partition: Partition) -> str:
    """`2 stages (up to 1024 tokens on 5 instances, up to 16384 on 3)`."""
    parts = [
        f"up to {end}{' tokens' if i == 0 else ''} on {count}"
        f"{(' instances' if count > 1 else ' instance') if i == 0 else ''}"
        for i, (end, count) in enumerate(zip(partition.ends, partition.instances, strict=True))
    ]
    return f"{len(parts)} stage{'s' if len(parts) > 1 else ''} ({', '.join(parts)})"
