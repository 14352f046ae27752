"""Numbers and facts in words, for output."""

from typing import Final

from cascade_cli.answer import Answer
from cascade_planner.partition import Partition

_HOURS_MS: Final = 1e7


def traffic(answer: Answer) -> str:
    """How many requests, from where, how fast, and how fast they were planned for."""
    observed = answer.observed
    text = f"{number(observed.requests)} requests"
    rate = answer.traffic.requests_per_second
    seen = observed.traffic.requests_per_second
    if observed.seconds is not None:
        text += f" in {period(observed.seconds)}, {amount(seen)} a second"
    text += f", from {observed.name}"
    if observed.origin:
        text += f" ({observed.origin})"
    if observed.seconds is None:
        text += f"; planned for {amount(rate)} a second"
    elif abs(rate / seen - 1) > 1e-6:
        text += f"; planned for {amount(rate / seen)} times that, {amount(rate)} a second"
    return text


def pool(answer: Answer) -> str:
    """How many instances of what, and how busy."""
    pool, count = answer.pool, answer.pool.instances
    gpus = "" if pool.gpus_per_instance == 1 else f" of {pool.gpus_per_instance} GPUs"
    return (
        f"{count} instance{'s' * (count > 1)}{gpus}, {pool.engine_name} ({pool.engine_about}), "
        f"sequences up to {number(answer.traffic.max_length)} tokens; "
        f"this traffic is load {answer.load:.2f}"
    )


def plan(answer: Answer) -> str:
    """How many stages, and the gain."""
    plan = answer.plan
    if len(plan.stages) == 1:
        return "1 stage: no split is predicted to pay for its smaller pools"
    if plan.forecast is not None and plan.forecast.load >= 1:
        return f"{len(plan.stages)} stages, the best to be had of a pool that is too small"
    direction = "lower" if plan.gain_percent >= 0 else "higher"
    return (
        f"{len(plan.stages)} stages, at a predicted cost {percent(abs(plan.gain_percent))} "
        f"{direction} than with one stage"
    )


def partition(partition: Partition) -> str:
    """`1024 x 5, 16384 x 3`."""
    pairs = zip(partition.ends, partition.instances, strict=True)
    return ", ".join(f"{number(end)} x {count}" for end, count in pairs)


def stage_range(low: int, high: int) -> str:
    """Lengths of a stage."""
    return f"up to {number(high)}" if low <= 1 else f"{number(low)} to {number(high)}"


def number(value: float) -> str:
    """A whole number with separators."""
    return f"{value:,.0f}"


def amount(value: float) -> str:
    """A number in four digits or a few more, never with an exponent."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def share(value: float) -> str:
    """A share of 1 in per cent."""
    return f"{100 * value:.0f} %"


def change_percent(before: float, after: float) -> float:
    """By how many per cent `after` is more than `before`."""
    return 100 * (after / before - 1)


def percent(value: float) -> str:
    """Per cent with a decimal, as long as that is not ridiculous."""
    return f"{value:.1f} %" if abs(value) < 1000 else f"{value:,.0f} %"


def signed_percent(value: float) -> str:
    """Per cent with a sign, never -0.0."""
    if abs(value) < 0.05:
        return "0.0 %"
    return f"{'+' if value > 0 else ''}{percent(value)}"


def milliseconds(value: float) -> str:
    """A time, in seconds from 1 s on, in a natural unit from some hours on."""
    if value >= _HOURS_MS:
        return period(value / 1000)
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def period(seconds: float) -> str:
    """A time span in its natural unit."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
