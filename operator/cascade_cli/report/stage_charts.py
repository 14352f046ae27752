"""Plots of a plan: where its stages end, and what each stage had to do over time."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Final

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from plotly.subplots import make_subplots  # type: ignore[import-untyped]

from cascade_cli.report.chart import Chart, Figure, logarithmic, new_figure, rule
from cascade_cli.report.curves import thinned
from cascade_cli.report.study import Study
from cascade_cli.report.style import FINAL_COLOUR, PROMPT_COLOUR, RULE_COLOUR, stage_colours
from cascade_simulator.outcome import Floats, Ints, Outcome, Samples, StageChange

MOST_MARKS: Final = 60
"""Plan changes that are marked one by one; more would be a grey wall."""
MOST_MOMENTS: Final = 250
BINS_PER_DOUBLING: Final = 2


def plan_over_lengths(study: Study, load: float, policy: str) -> list[Chart]:
    """The stage boundaries of a policy over the histogram of lengths; none without stages."""
    outcome = study.outcomes(policy, load)[0]
    staged = [change for change in outcome.stage_changes if len(change.ends) > 1]
    if not staged:
        return []
    figure = new_figure("length in tokens (logarithmic)", "share of requests")
    longest = int((outcome.prompt + outcome.output).max())
    edges = _edges(int(outcome.prompt.min()), longest)
    _histogram(figure, "prompt", outcome.prompt, edges, PROMPT_COLOUR)
    _histogram(figure, "prompt and answer", outcome.prompt + outcome.output, edges, FINAL_COLOUR)
    last = staged[-1]
    for end in last.ends[:-1]:
        rule(figure, x=end)
    _name_stages(figure, last, float(edges[0]), float(edges[-1]))
    figure.update_layout(barmode="overlay", bargap=0)
    logarithmic(figure, "x", float(edges[0]), float(edges[-1]))
    figure.update_yaxes(tickformat=".0%")
    note = f"The last of {len(staged)} plans of this run." if len(staged) > 1 else ""
    return [Chart(_plan_in_words(policy, last), figure, note, load, policy)]


def load_over_time(study: Study, load: float, policy: str) -> list[Chart]:
    """Sequences, KV use and waiting prefill per instance of each stage, over the first run."""
    outcome = study.outcomes(policy, load)[0]
    samples = _until(outcome.samples, float(outcome.arrival_ms[-1]))
    if samples.time_ms.size < 2:
        return []
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    figure.update_layout(new_figure("", "", height=620).layout)
    rows = (
        ("sequences (B)", samples.sequences.astype(np.float64)),
        ("KV cache in use", samples.kv_use),
        ("waiting prefill (W), ms", samples.waiting_prefill_ms),
    )
    stages = int(samples.stage.max()) + 1
    names = _stage_names(outcome, stages)
    for row, (title, values) in enumerate(rows, start=1):
        for name, colour, series in zip(
            names, stage_colours(stages), _by_stage(samples, values, stages), strict=True
        ):
            _over_time(figure, row, name, colour, samples.time_ms, series)
        figure.update_yaxes(title_text=title, rangemode="tozero", automargin=True, row=row, col=1)
    figure.update_yaxes(tickformat=".0%", row=2, col=1)
    figure.update_xaxes(title_text="time in s", row=3, col=1)
    note = "Mean per instance of each stage, in the run of the first seed."
    note += _mark_changes(figure, outcome.stage_changes)
    return [Chart(_load_in_words(policy, samples), figure, note, load, policy)]


def _edges(shortest: int, longest: int) -> Floats:
    """Bin edges in geometric steps, around all lengths."""
    low = np.floor(np.log2(max(shortest, 16)) * BINS_PER_DOUBLING)
    high = np.ceil(np.log2(longest + 1) * BINS_PER_DOUBLING)
    edges: Floats = 2 ** (np.arange(low, max(high, low + 1) + 1) / BINS_PER_DOUBLING)
    return edges


def _histogram(figure: Figure, name: str, lengths: Ints, edges: Floats, colour: str) -> None:
    counts, _ = np.histogram(np.clip(lengths, edges[0], edges[-1]), edges)
    figure.add_trace(
        go.Bar(
            x=np.sqrt(edges[:-1] * edges[1:]),
            width=np.diff(edges),
            y=counts / counts.sum(),
            name=name,
            marker={"color": colour, "opacity": 0.55, "line": {"width": 0}},
            customdata=np.stack([edges[:-1], edges[1:]], axis=1).round(),
            hovertemplate="%{customdata[0]:,}–%{customdata[1]:,} tokens: %{y:.1%}"
            f"<extra>{name}</extra>",
        )
    )


def _name_stages(figure: Figure, change: StageChange, low: float, high: float) -> None:
    """The number of instances, above the middle of each stage's range."""
    starts = (low, *(float(end) for end in change.ends[:-1]))
    for start, end, count in zip(starts, change.ends, change.counts, strict=True):
        left, right = max(start, low), min(float(end), high)
        if left >= right:
            continue
        figure.add_annotation(
            x=float(np.log10(left * right)) / 2,
            y=1.02,
            yref="paper",
            yanchor="bottom",
            text=f"{count}×",
            hovertext=f"{count} instances up to {end:,} tokens",
            showarrow=False,
        )
    figure.update_layout(margin={"t": 28})


def _until(samples: Samples, end_ms: float) -> Samples:
    """Those before the last arrival: afterwards the cluster only empties."""
    count = int((samples.time_ms <= end_ms).sum())
    return Samples(*(getattr(samples, field.name)[:count] for field in fields(samples)))


def _by_stage(samples: Samples, values: Floats, stages: int) -> list[Floats]:
    """Mean over the instances of each stage, (T,) each; NaN while a stage has none."""
    series = []
    for stage in range(stages):
        member = samples.stage == stage
        count = member.sum(axis=1)
        total = np.where(member, values, 0.0).sum(axis=1)
        series.append(np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0))
    return series


def _over_time(
    figure: Figure, row: int, name: str, colour: str, time_ms: Floats, series: Floats
) -> None:
    times, means = thinned(time_ms / 1000, series, MOST_MOMENTS)
    figure.add_trace(
        go.Scatter(
            x0=times[0],
            dx=times[1] - times[0],
            y=means.astype(np.float32),
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate=f"{name}<br>%{{x:.0f}} s: %{{y:.3g}}<extra></extra>",
        ),
        row=row,
        col=1,
    )


def _mark_changes(figure: Figure, changes: Sequence[StageChange]) -> str:
    """Mark the moments of new plans; returns what the note says of them."""
    later = [change.time_ms / 1000 for change in changes if change.time_ms > 0]
    if not later:
        return ""
    for moment in later[:: -(-len(later) // MOST_MARKS)]:
        figure.add_vline(
            x=moment, line={"color": RULE_COLOUR, "width": 1, "dash": "dot"}, row="all", col=1
        )
    if len(later) > MOST_MARKS:
        return f" Dotted: some of the {len(later)} changes of the plan."
    return f" Dotted: the plan changed ({len(later)} times)."


def _stage_names(outcome: Outcome, stages: int) -> list[str]:
    if stages == 1:
        return ["all instances"]
    changes = [change for change in outcome.stage_changes if len(change.ends) == stages]
    if not changes:
        return [f"stage {stage}" for stage in range(stages)]
    return [f"stage {stage}: up to {end:,} tokens" for stage, end in enumerate(changes[-1].ends)]


def _plan_in_words(policy: str, change: StageChange) -> str:
    parts = [
        f"{count} up to {end:,} tokens"
        for end, count in zip(change.ends, change.counts, strict=True)
    ]
    return f"{policy} splits the instances into {len(parts)} stages: {', '.join(parts)}"


def _load_in_words(policy: str, samples: Samples) -> str:
    busiest = float(samples.kv_use.max())
    waiting = float(samples.waiting_prefill_ms.mean())
    return (
        f"With {policy}, an instance holds {samples.sequences.mean():.1f} "
        f"sequences on average, {waiting:.0f} ms of prefill wait, and KV use peaks at "
        f"{busiest:.0%}"
    )
