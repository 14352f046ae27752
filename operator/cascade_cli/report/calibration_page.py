"""The report of a calibration: what was measured, and the model through it."""

from collections.abc import Sequence
from html import escape
from typing import Final

import plotly.graph_objects as go  # type: ignore[import-untyped]

from cascade_cli.calibrate_output import Outcome
from cascade_cli.calibration.decode_steps import DecodeStep
from cascade_cli.report.chart import Chart, Figure, new_figure, rule
from cascade_cli.report.html import Plots, document
from cascade_cli.report.style import COLOURS

_CURVE_POINTS: Final = 60


def render(outcome: Outcome) -> str:
    """The whole file."""
    plots = Plots()
    charts = (_decode(outcome), _prefill(outcome), _errors(outcome))
    facts = outcome.document
    title = f"What a step of {facts['model']} costs"
    about = f"{facts['engine']}; GPU: {facts['gpu']}; {facts['date']}. {facts['method']}"
    sections = (
        f'<header><h1>{escape(title)}</h1><p class="soft">{escape(about)}</p></header>',
        f"<section><h2>Coefficients</h2>{_table(outcome)}</section>",
        f"<section><h2>Measurements</h2>{''.join(map(plots.place, charts))}</section>",
    )
    return document(title, sections, plots)


def _table(outcome: Outcome) -> str:
    body = "".join(
        f"<tr><td>{name}</td><td>{one.value:.4g}</td><td>{one.low:.4g}</td><td>{one.high:.4g}</td></tr>"
        for name, one in outcome.fit.estimates.items()
    )
    return (
        '<div class="wide"><table><thead><tr><th>coefficient</th><th>value</th><th>95 % from</th>'
        f"<th>to</th></tr></thead><tbody>{body}</tbody></table></div>"
    )


def _decode(outcome: Outcome) -> Chart:
    """Step times over KV tokens, a colour for each ladder, and the model at the same places."""
    figure = new_figure("KV tokens of the batch", "ms per step")
    engine = outcome.engine
    for colour, (name, steps) in zip(COLOURS, _by_ladder(outcome.steps).items(), strict=False):
        places = sorted(steps, key=lambda step: step.kv_tokens)
        model = [
            engine.decode_ms(step.sequences, step.kv_tokens, engine.penalty_of_cv(step.cv))
            for step in places
        ]
        kv_tokens = [step.kv_tokens for step in places]
        figure.add_trace(_points(name, colour, places, kv_tokens))
        figure.add_trace(_line(f"{name}, model", colour, kv_tokens, model))
    return Chart(
        finding=f"A step over unseen batches is predicted to {_share(outcome.fit.decode.median)} "
        "(median)",
        figure=figure,
        note="Each point: the median step of a batch. Lines join the model's values for the same "
        "batches, which differ in number and evenness of lengths too.",
    )


def _prefill(outcome: Outcome) -> Chart:
    figure = new_figure("prompt tokens", "ms of prefill")
    engine = outcome.engine
    works = sorted(outcome.works, key=lambda work: work.tokens)
    figure.add_trace(
        go.Scatter(
            name="measured",
            mode="markers",
            marker={"color": COLOURS[0], "size": 8},
            x=[work.tokens for work in works],
            y=[work.ms for work in works],
            hovertemplate="%{x:,} tokens: %{y:.4g} ms",
        )
    )
    top = works[-1].tokens
    lengths = [top * place / _CURVE_POINTS for place in range(_CURVE_POINTS + 1)]
    figure.add_trace(_line("model", COLOURS[0], lengths, [engine.prefill_ms(x) for x in lengths]))
    return Chart(
        finding="A prompt of an unseen length is predicted to "
        f"{_share(outcome.fit.prefill.median)} (median)",
        figure=figure,
        note="Each point: by how much one decoding sequence was held up by a prompt.",
    )


def _errors(outcome: Outcome) -> Chart:
    figure = new_figure("order of measurement", "model over measured, less 1")
    fit = outcome.fit
    for name, colour, off in (
        ("batches", COLOURS[0], fit.decode_off),
        ("prompts", COLOURS[1], fit.prefill_off),
    ):
        figure.add_trace(
            go.Scatter(
                name=name,
                mode="markers",
                marker={"color": colour, "size": 7},
                x=list(range(1, len(off) + 1)),
                y=list(off),
                hovertemplate="%{y:.1%}",
            )
        )
    rule(figure, y=0)
    figure.update_yaxes(tickformat=".1%", rangemode="normal")
    return Chart(
        finding="What the fit leaves",
        figure=figure,
        note="A drift means that the engine or its host changed: throttling, other users.",
    )


def _by_ladder(steps: Sequence[DecodeStep]) -> dict[str, list[DecodeStep]]:
    found: dict[str, list[DecodeStep]] = {}
    for step in steps:
        found.setdefault(step.name.rsplit(" ", 1)[0], []).append(step)
    return found


def _points(name: str, colour: str, places: Sequence[DecodeStep], x: Sequence[float]) -> Figure:
    return go.Scatter(
        name=name,
        mode="markers",
        marker={"color": colour, "size": 8},
        x=list(x),
        y=[step.ms for step in places],
        error_y={"type": "data", "array": [2 * step.error_ms for step in places], "width": 0},
        customdata=[(step.sequences, step.cv) for step in places],
        hovertemplate="%{customdata[0]} sequences, cv %{customdata[1]:.2f}, %{x:,.0f} tokens: "
        "%{y:.4g} ms",
    )


def _line(name: str, colour: str, x: Sequence[float], y: Sequence[float]) -> Figure:
    return go.Scatter(
        name=name,
        mode="lines",
        line={"color": colour, "width": 1, "dash": "dot"},
        x=list(x),
        y=list(y),
        hoverinfo="skip",
    )


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
