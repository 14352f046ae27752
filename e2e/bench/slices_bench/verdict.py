"""What the rows say about each claim of the paper."""

from collections.abc import Callable, Sequence
from typing import Final

from e2e.bench.slices_bench.experiments import NAMES, Row
from e2e.bench.slices_bench.interval import Interval, show

CLAIMED_GAIN: Final = 3.158
"""arXiv 2406.13511: SCLS raises throughput by up to 315.8 % over SLS and ILS."""


def verdict(rows: Sequence[Row]) -> str:
    """A Markdown list, a point per claim: reproduced or not, by which numbers, and why."""
    points = (_over_sls, _over_ils, _response, _balance, _context)
    return "\n".join(f"- {point(rows)}" for point in points)


def _over_sls(rows: Sequence[Row]) -> str:
    cells = _rows(rows, "ablation", "SCLS")
    best = max(cells, key=_mean_of("gain_over_SLS"))
    worst = min(cells, key=_mean_of("gain_over_SLS"))
    return (
        f"**{CLAIMED_GAIN:+.1%} throughput over SLS: {judge(best.values['gain_over_SLS'])}.** "
        f"Best of the tables {_gain(best, 'SLS')} ({_where(best)}), worst {_gain(worst, 'SLS')} "
        f"({_where(worst)}). SLS emits invalid tokens until the longest of a batch is done, which "
        "weighs the more, the wider the answers' lengths are spread and the more a decode step "
        "costs beside the repeated prefill of slices; "
        f"with fused kernels {_as_claimed(rows)}."
    )


def _over_ils(rows: Sequence[Row]) -> str:
    cells = _rows(rows, "ablation", "SCLS") + _rows(rows, "slice", "SCLS")
    best = max(cells, key=_mean_of("gain_over_ILS"))
    ils = _prefilled(_rows(rows, "ablation", "ILS")[0])
    scls = _prefilled(_rows(rows, "ablation", "SCLS")[0])
    return (
        f"**{CLAIMED_GAIN:+.1%} throughput over ILS: {judge(best.values['gain_over_ILS'])}.** "
        f"Best of all engines, lengths and slices: {_gain(best, 'ILS')}. Continuous batching pads "
        f"nothing, emits nothing invalid and prefills a prompt once ({ils:.1f} prefilled tokens "
        f"per valid one; SCLS, which prefills at every slice, {scls:.1f}). {_break_even(rows)} "
        "A paged KV cache removes the reason to run few."
    )


def _response(rows: Sequence[Row]) -> str:
    sls, scls = _rows(rows, "rate", "SLS"), _rows(rows, "rate", "SCLS")
    ratios = {
        sliced.factor: sliced.values["mean_response_s"].mean / whole.values["mean_response_s"].mean
        for whole, sliced in zip(sls, scls, strict=True)
    }
    lost = [f"{rate:g}" for rate, ratio in ratios.items() if ratio > 1]
    shown = ", ".join(f"{ratio - 1:+.0%} at {rate:g}/s" for rate, ratio in ratios.items())
    outcome = (
        f"reproduced against SLS except at {' and '.join(lost)} requests/s"
        if lost
        else "reproduced against SLS"
    )
    ils = _rows(rows, "rate", "ILS")
    sooner = sum(
        whole.values["mean_response_s"].mean < sliced.values["mean_response_s"].mean
        for whole, sliced in zip(ils, scls, strict=True)
    )
    return (
        f"**Shorter mean response: {outcome}** ({shown}). A round gathers few large batches where "
        "many small ones would use all instances: the batching minimises the sum of serving times, "
        f"whatever the number of instances. {_shortest_round(rows)} ILS answers sooner than SCLS "
        f"at {sooner} of {len(ils)} rates."
    )


def _shortest_round(rows: Sequence[Row]) -> str:
    first = min(_rows(rows, "round", "SCLS"), key=lambda row: row.factor)
    sls = next(row for row in _rows(rows, "round", "SLS") if row.factor == first.factor)
    return (
        f"With rounds every {first.factor:g} s SCLS takes "
        f"{show(first.values['mean_response_s'], '.1f')} s at the lowest rate, SLS "
        f"{show(sls.values['mean_response_s'], '.1f')} s."
    )


def _balance(rows: Sequence[Row]) -> str:
    cells = _rows(rows, "ablation", "SCLS")
    first = {
        row.scheduler: row.values["completion_spread_s"]
        for row in rows
        if row.experiment == "ablation"
        and (row.engine, row.lengths) == (cells[0].engine, cells[0].lengths)
    }
    balanced = first["SCLS"].mean < first["SLS"].mean
    by_offloading = first["LB"].mean + first["LB"].plus_minus < first["AB"].mean
    spread = {scheduler: show(seconds, ".1f") for scheduler, seconds in first.items()}
    return (
        f"**Balanced instances: {'reproduced' if balanced else 'not reproduced'} over SLS, "
        f"{'in part by' if by_offloading else 'but not by'} max-min offloading.** The completion "
        f"times of the instances spread by {spread['SLS']} s with SLS, {spread['ILS']} s with ILS "
        f"and {spread['SCLS']} s with SCLS ({_where(cells[0])}). Slices alone limit how much "
        f"batches can differ: with adaptive batches sent in turn (AB) it is {spread['AB']} s, with "
        f"max-min offloading (LB) {spread['LB']} s."
    )


def _context(rows: Sequence[Row]) -> str:
    own = _rows(rows, "context", "SCLS")
    falls = _mean_of("gain_over_SLS")(own[-1]) < _mean_of("gain_over_SLS")(own[0])
    shown = ", ".join(f"{row.factor:g}x: {_gain(row, 'SLS')}" for row in own)
    return (
        f"**The gain over SLS {'falls' if falls else 'does not fall'} as contexts grow** "
        f"(prompts {shown}): every slice prefills all of the context again."
    )


def judge(gain: Interval) -> str:
    """A measured gain in throughput against the claimed one, in words."""
    if gain.mean - gain.plus_minus >= CLAIMED_GAIN:
        return "reproduced"
    if gain.mean + gain.plus_minus >= CLAIMED_GAIN:
        return "reproduced within the confidence interval"
    return "a gain, but smaller" if gain.mean - gain.plus_minus > 0 else "not reproduced"


def _as_claimed(rows: Sequence[Row]) -> str:
    reached = [
        row
        for row in _rows(rows, "limit", "SCLS")
        if _mean_of("gain_over_SLS")(row) >= CLAIMED_GAIN
    ]
    if not reached:
        return "it is not reached with any of the batch sizes below"
    most = max(reached, key=lambda row: row.factor)
    return f"it takes batches of at most about {most.factor:g} ({_gain(most, 'SLS')})"


def _break_even(rows: Sequence[Row]) -> str:
    ahead = [row for row in _rows(rows, "limit", "SCLS") if _mean_of("gain_over_ILS")(row) > 0]
    if not ahead:
        return "SCLS is ahead at none of the limits below."
    most, least = max(ahead, key=lambda row: row.factor), min(ahead, key=lambda row: row.factor)
    return (
        f"SCLS is ahead if ILS runs at most about {most.factor:g} sequences ({_gain(most, 'ILS')}; "
        f"with {least.factor:g}: {_gain(least, 'ILS')}), so that the claim needs a baseline "
        "that runs very few."
    )


def _rows(rows: Sequence[Row], experiment: str, scheduler: str) -> list[Row]:
    own = [row for row in rows if row.experiment == experiment]
    return [row for row in own if row.scheduler == scheduler]


def _mean_of(metric: str) -> Callable[[Row], float]:
    return lambda row: row.values[metric].mean


def _gain(row: Row, base: str) -> str:
    return show(row.values[f"gain_over_{base}"], "+.0%")


def _prefilled(row: Row) -> float:
    return row.values["prefilled_per_valid"].mean


def _where(row: Row) -> str:
    return f"{NAMES[row.engine]}, {NAMES[row.lengths]}"
