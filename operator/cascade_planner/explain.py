"""A plan in sentences, for status, events and people."""

from collections.abc import Callable, Mapping
from typing import Final

from cascade_planner.forecast import Forecast
from cascade_planner.partition import Partition
from cascade_planner.plan import Binding, Plan

_Measure = Callable[[Forecast], float]

_FULLEST: Final[Mapping[Binding, _Measure]] = {
    Binding.STABILITY: lambda forecast: forecast.load,
    Binding.KV_CAPACITY: lambda forecast: forecast.kv_use,
    Binding.MAX_SEQUENCES: lambda forecast: forecast.batch,
    Binding.TIME_TO_FIRST_TOKEN: lambda forecast: forecast.ttft_ms,
    Binding.TIME_PER_OUTPUT_TOKEN: lambda forecast: forecast.tpot_ms,
}
"""By what the stage is found that binds."""

_BINDS: Final[Mapping[Binding, str]] = {
    Binding.STABILITY: "{stage} is at load {load:.2f}, without margin for a peak (more instances)",
    Binding.KV_CAPACITY: (
        "the KV cache of {stage} is {kv:.0f} % full (more instances, or more GPUs for each)"
    ),
    Binding.MAX_SEQUENCES: (
        "{stage} runs {batch:.0f} sequences in an instance, as many as its engine admits (more "
        "instances, or a higher limit of the engine)"
    ),
    Binding.TIME_TO_FIRST_TOKEN: (
        "{stage} misses the time-to-first-token target with {ttft:.0f} ms (more instances, or a "
        "later target)"
    ),
    Binding.TIME_PER_OUTPUT_TOKEN: (
        "{stage} misses the time-per-output-token target with {tpot:.1f} ms (more instances, or a "
        "later target)"
    ),
    Binding.MAX_STAGES: "maxStages allows no further stage (raise it)",
    Binding.INSTANCES: "every stage has one instance, so none can be split (more instances)",
    Binding.FIXED_BOUNDARIES: "the boundaries are set by hand (leave them out to have them found)",
}
"""What binds, and in brackets what would relax it."""

_SHOWN_GAP: Final = 0.05
"""Percent below which a plan is as good as the best."""


def explain(plan: Plan) -> str:
    """Why these stages, against one stage and the runner-up, and what binds: a few sentences."""
    if plan.forecast is None or plan.one_stage_forecast is None:
        return f"{describe(plan.partition)}. No traffic is known, so nothing is predicted."
    sentences = [_choice(plan, plan.forecast, plan.one_stage_forecast)]
    if plan.runner_up is not None:
        dearer = 100 * (plan.runner_up.cost / plan.cost - 1)
        sentences.append(
            f"Runner-up: {describe(plan.runner_up.partition)}, at {abs(dearer):.1f} % "
            f"{'higher' if dearer >= 0 else 'lower'} cost."
        )
    if plan.gap_percent >= _SHOWN_GAP:
        sentences.append(f"The best there is may cost up to {plan.gap_percent:.1f} % less.")
    if plan.binding:
        sentences.append(f"What binds: {'; '.join(binds(plan))}.")
    return " ".join(sentences)


def describe(partition: Partition) -> str:
    """`2 stages (up to 1024 tokens on 5 instances, up to 16384 on 3)`."""
    parts = [
        f"up to {end}{' tokens' if i == 0 else ''} on {count}"
        f"{(' instances' if count > 1 else ' instance') if i == 0 else ''}"
        for i, (end, count) in enumerate(zip(partition.ends, partition.instances, strict=True))
    ]
    return f"{len(parts)} stage{'s' if len(parts) > 1 else ''} ({', '.join(parts)})"


def binds(plan: Plan) -> tuple[str, ...]:
    """What keeps `plan` from being better and, in brackets, what would relax it."""
    return tuple(_binds(one, plan) for one in plan.binding)


def _choice(plan: Plan, ours: Forecast, one_stage: Forecast) -> str:
    if len(plan.stages) == 1:
        return (
            f"{describe(plan.partition)}: no split is predicted to pay for its smaller pools; "
            f"{_times(ours)}."
        )
    change = "lower" if plan.gain_percent >= 0 else "higher"
    return (
        f"{describe(plan.partition)}: cost {plan.cost:.4g}, {abs(plan.gain_percent):.1f} % "
        f"{change} than with one stage ({plan.one_stage_cost:.4g}); predicted {_times(ours)}, with "
        f"one stage {_times(one_stage)}."
    )


def _binds(binding: Binding, plan: Plan) -> str:
    """What binds, with the stage where it binds most."""
    measure = _FULLEST.get(binding)
    if measure is None:
        return _BINDS[binding]
    stages = [(stage, stage.forecast) for stage in plan.stages if stage.forecast is not None]
    stage, forecast = max(stages, key=lambda pair: measure(pair[1]))
    return _BINDS[binding].format(
        stage=f"the stage up to {stage.max_length} tokens",
        load=forecast.load,
        kv=100 * forecast.kv_use,
        batch=forecast.batch,
        ttft=forecast.ttft_ms,
        tpot=forecast.tpot_ms,
    )


def _times(forecast: Forecast) -> str:
    return (
        f"TTFT {forecast.ttft_ms:.0f} ms, TPOT {forecast.tpot_ms:.1f} ms, "
        f"E2E {forecast.e2e_ms / 1000:.2f} s, load {forecast.load:.2f}"
    )
