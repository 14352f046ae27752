"""Plots of latency: its distribution, by prompt length, and what is served in time."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import numpy as np
import plotly.graph_objects as go  # type: ignore[import-untyped]
from numpy.typing import NDArray

from cascade_cli.report import findings
from cascade_cli.report.chart import Chart, Figure, logarithmic, new_figure, rule
from cascade_cli.report.comparison import Figures, Row
from cascade_cli.report.curves import cdf, equal_groups, means_between
from cascade_cli.report.study import Metric, Study
from cascade_cli.report.style import Pen
from cascade_simulator.outcome import Floats

GROUPS: Final = 10
"""Parts of equal size into which requests are sorted by prompt length."""

_TPOT: Final = "time per output token"
_TIMES: Final[tuple[tuple[str, Metric, Callable[[Figures], float]], ...]] = (
    ("time to first token", lambda outcome: outcome.ttft_ms, lambda f: f.ttft_mean),
    (_TPOT, lambda outcome: outcome.tpot_ms, lambda f: f.tpot_mean),
    ("end-to-end time", lambda outcome: outcome.e2e_ms, lambda f: f.e2e_mean),
)
_BY_LENGTH: Final = (_TIMES[0], _TIMES[2])


def distributions(
    study: Study, load: float, rows: Sequence[Row], pens: dict[str, Pen]
) -> list[Chart]:
    """Cumulative distributions of the three times at one load."""
    charts = []
    for what, metric, mean in _TIMES:
        figure = new_figure(f"{what} (logarithmic)", "share of requests")
        several = what == _TPOT
        curves = {
            policy: cdf(study.values(policy, load, metric, several=several)) for policy in pens
        }
        for policy, (values, share) in curves.items():
            _line(
                figure, policy, pens[policy], _small(values), _small(share), "%{x:.4g} ms: %{y:.1%}"
            )
        reached = np.concatenate([values[values > 0] for values, _ in curves.values()])
        if reached.size:
            logarithmic(figure, "x", float(reached.min()), float(reached.max()), "ms")
        figure.update_yaxes(tickformat=".0%", range=[0, 1.01])
        charts.append(
            Chart(
                finding=findings.times(rows, f"mean {what}", mean),
                figure=figure,
                note=f"Each line: the share of requests whose {what} is at most so long. "
                "Further left is better.",
                load=load,
            )
        )
    return charts


def by_prompt_length(
    study: Study, load: float, rows: Sequence[Row], pens: dict[str, Pen]
) -> list[Chart]:
    """Means over tenths of the requests, by prompt length, as multiples of the baseline's."""
    baseline = rows[0].baseline
    prompts = study.values(baseline, load, lambda outcome: outcome.prompt.astype(np.float64))
    parts = equal_groups(prompts, GROUPS)
    ranges = [f"{prompts[part].min():,.0f} to {prompts[part].max():,.0f}" for part in parts]
    places = list(range(len(parts)))
    charts = []
    for what, metric, _ in _BY_LENGTH:
        base = means_between(study.values(baseline, load, metric), parts)
        figure = new_figure(
            "prompt length up to ... tokens (a tenth of the requests each)",
            f"relative to {escape(baseline)}",
        )
        ratios = []
        for policy, pen in pens.items():
            ratio = means_between(study.values(policy, load, metric), parts) / base
            ratios.append((policy, ratio.tolist()))
            hover = "%{customdata} tokens: %{y:.2f}"
            _line(figure, policy, pen, places, ratio, hover, mode="lines+markers", about=ranges)
        rule(figure, y=1)
        figure.update_xaxes(
            tickvals=places, ticktext=[_rounded(prompts[part].max()) for part in parts]
        )
        spread = [ratio for _, values in ratios for ratio in values if np.isfinite(ratio)]
        logarithmic(figure, "y", min(spread, default=1.0), max(spread, default=1.0))
        charts.append(
            Chart(
                finding=findings.by_length(ratios, f"mean {what}", baseline),
                figure=figure,
                note=f"Below 1 these requests gain against {baseline}, above 1 they pay.",
                load=load,
            )
        )
    return charts


def against_load(rows: Sequence[Row], pens: dict[str, Pen]) -> list[Chart]:
    """What is served within the targets, load by load."""
    goodput = new_figure("offered load (1 = the stability limit)", "requests per second in time")
    share = new_figure("offered load (1 = the stability limit)", "share of requests in time")
    for policy, pen in pens.items():
        of_policy = [row for row in rows if row.policy == policy]
        loads = [row.load for row in of_policy]
        served = [row.figures.goodput for row in of_policy]
        in_time = [row.figures.slo_share for row in of_policy]
        _line(goodput, policy, pen, loads, served, "load %{x}: %{y:.3g}/s", mode="lines+markers")
        _line(share, policy, pen, loads, in_time, "load %{x}: %{y:.1%}", mode="lines+markers")
    rule(share, y=0.9)
    for figure in (goodput, share):
        figure.update_xaxes(tickvals=sorted({row.load for row in rows}))
    lowest = min(0.85, *(row.figures.slo_share for row in rows))
    share.update_yaxes(tickformat=".0%", range=[max(0, lowest - 0.02), 1.01])
    return [
        Chart(
            finding=findings.goodput(rows),
            figure=goodput,
            note="Throughput at the targets. Higher is better.",
        ),
        Chart(
            finding=findings.attainment(rows),
            figure=share,
            note="The dotted line is 90 %: the load at which a policy falls below it is its "
            "capacity.",
        ),
    ]


def _rounded(tokens: float) -> str:
    """`939`, `1.6k`, `17k`: short enough for ten of them on a phone."""
    if tokens < 1000:
        return f"{tokens:.0f}"
    return f"{tokens / 1000:.1f}k" if tokens < 9950 else f"{tokens / 1000:.0f}k"


def _small(values: Floats) -> NDArray[np.float32]:
    """Half the size, in the file, of what nobody sees more exactly."""
    return values.astype(np.float32)


def _line(
    figure: Figure,
    policy: str,
    pen: Pen,
    x: object,
    y: object,
    hover: str,
    mode: str = "lines",
    about: Sequence[str] = (),
) -> None:
    name = escape(policy)
    figure.add_trace(
        go.Scatter(
            x=x,
            y=y,
            name=name,
            mode=mode,
            customdata=list(about) or None,
            line={"color": pen.colour, "dash": pen.dash, "width": 2},
            hovertemplate=f"{name}<br>{hover}<extra></extra>",
        )
    )
