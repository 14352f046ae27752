"""A plot with its title in words, and the conventions all plots share."""

import math
from dataclasses import dataclass
from typing import Any, Final

import plotly.graph_objects as go  # type: ignore[import-untyped]

from cascade_cli.report.style import RULE_COLOUR

Figure = Any
"""A plotly.graph_objects.Figure; the package carries no types."""

HEIGHT: Final = 360
NO_TEMPLATE: Final = go.layout.Template()
"""Plotly's own templates bring their colours, and 7 KB to every figure."""


@dataclass(frozen=True, eq=False, slots=True)
class Chart:
    """One plot of the report."""

    finding: str
    """What it shows, in words: the title."""
    figure: Figure
    note: str = ""
    """How to read it."""
    load: float | None = None
    """The load that it belongs to; None for all."""
    policy: str | None = None
    """The policy that it belongs to; None for all."""


def new_figure(x_title: str, y_title: str, height: int = HEIGHT) -> Figure:
    """An empty figure. Colours of text and grid are the page's, so that they follow its theme."""
    figure = go.Figure()
    figure.update_layout(
        template=NO_TEMPLATE,
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        hovermode="closest",
        xaxis={"title": {"text": x_title}, "automargin": True},
        yaxis={"title": {"text": y_title}, "automargin": True, "rangemode": "tozero"},
    )
    return figure


def rule(figure: Figure, *, x: float | None = None, y: float | None = None, **where: Any) -> None:
    """A reference line across the plot."""
    line = {"color": RULE_COLOUR, "width": 1, "dash": "dot"}
    if x is not None:
        figure.add_vline(x=x, line=line, **where)
    if y is not None:
        figure.add_hline(y=y, line=line, **where)


def logarithmic(figure: Figure, axis: str, low: float, high: float, unit: str = "") -> None:
    """Make `axis` ("x" or "y") logarithmic, with marks at 1, 2 and 5 times powers of ten.

    `unit` "ms" names marks from 1,000 on in seconds; others show the bare number.
    """
    marks = log_marks(low, high)
    figure.update_layout(
        {
            f"{axis}axis": {
                "type": "log",
                "tickvals": marks,
                "ticktext": [_named(mark, unit) for mark in marks],
                "rangemode": "normal",
            }
        }
    )


def log_marks(low: float, high: float) -> list[float]:
    """Round numbers between `low` and `high`, the denser the nearer those are to each other."""
    span = high / low
    steps = (
        (1.0,) if span > 1e4 else (1, 2, 5) if span > 5 else (1, 1.2, 1.5, 2, 2.5, *range(3, 10))
    )
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [float(f"{step}e{decade}") for decade in decades for step in steps]
    return [mark for mark in marks if low <= mark <= high] or [low, high]


def _named(mark: float, unit: str) -> str:
    if unit == "ms":
        return f"{mark / 1000:g} s" if mark >= 1000 else f"{mark:g} ms"
    return f"{mark:,.4g}" if mark < 1000 else f"{mark:,.0f}"
