"""What the plots show, in words: their titles."""

import math
from collections.abc import Callable, Sequence

from cascade_cli.report.comparison import Figures, Row

JOIN = "\u00a0"
"""Keeps a number and its unit on one line."""
EQUAL_SHARE = 0.01
"""Differences below this share are not spoken of as such."""


def seconds(milliseconds: float) -> str:
    """Three digits: `94.7 ms`, `430 ms`, `1.42 s`, `120 s`; `∞` when requests never ended."""
    if not math.isfinite(milliseconds):
        return "∞"
    if milliseconds < 999.5:
        return f"{milliseconds:.3g}{JOIN}ms"
    moderate = milliseconds < 1e6
    return f"{milliseconds / 1000:.3g}{JOIN}s" if moderate else f"{milliseconds / 1000:,.0f}{JOIN}s"


def headline(rows: Sequence[Row]) -> str:
    """What the best policy is worth at the greatest load."""
    return times(rows, "mean end-to-end time", lambda figures: figures.e2e_mean)


def times(rows: Sequence[Row], what: str, figure: Callable[[Figures], float]) -> str:
    """Who has the least of a time, beside the baseline; `rows` are those of one load."""
    best = min(rows, key=lambda row: figure(row.figures))
    base, name = figure(best.of_baseline), best.baseline
    least = figure(best.figures)
    if best.policy == name or least > base * (1 - EQUAL_SHARE):
        return f"No policy has a clearly lower {what} than {name} ({seconds(base)})"
    return (
        f"{best.policy} has the least {what}: {seconds(least)}, {percent(least / base)} against "
        f"{name} ({seconds(base)})"
    )


def percent(ratio: float) -> str:
    """`-21 %` for 0.79."""
    return f"{100 * (ratio - 1):+.0f}{JOIN}%".replace("-", "−")


def attainment(rows: Sequence[Row]) -> str:
    """Who serves the greatest share within the targets at the greatest load."""
    last = _at_greatest_load(rows)
    best = max(last, key=lambda row: row.figures.slo_share)
    base = best.of_baseline
    if best.figures.slo_share <= base.slo_share + EQUAL_SHARE:
        return f"No policy keeps clearly more requests within the targets than {best.baseline}"
    return (
        f"At load {best.load:g}, {best.policy} keeps {best.figures.slo_share:.0%} of the requests "
        f"within the targets, {best.baseline} {base.slo_share:.0%}"
    )


def goodput(rows: Sequence[Row]) -> str:
    """Who serves most requests within the targets at the greatest load."""
    last = _at_greatest_load(rows)
    best = max(last, key=lambda row: row.figures.goodput)
    base = best.of_baseline
    if best.figures.goodput <= base.goodput * (1 + EQUAL_SHARE):
        return f"No policy serves clearly more requests within the targets than {best.baseline}"
    return (
        f"At load {best.load:g}, {best.policy} serves {best.figures.goodput:.3g} requests per "
        f"second within the targets, {best.baseline} {base.goodput:.3g}"
    )


def _at_greatest_load(rows: Sequence[Row]) -> list[Row]:
    load = max(row.load for row in rows)
    return [row for row in rows if row.load == load]


def by_length(ratios: Sequence[tuple[str, Sequence[float]]], what: str, baseline: str) -> str:
    """Whether anybody pays for a policy's gain; `ratios` per policy, shortest prompts first."""
    judged = [(policy, min(values), max(values)) for policy, values in ratios if policy != baseline]
    if not judged:
        return f"{what} by prompt length"
    policy, least, most = min(judged, key=lambda one: one[1] + one[2])
    if most <= 1 + EQUAL_SHARE:
        return f"With {policy}, {what} is no worse than with {baseline} at any prompt length"
    return (
        f"With {policy}, {what} changes between {percent(least)} and {percent(most)} against "
        f"{baseline}, depending on the prompt length"
    )
