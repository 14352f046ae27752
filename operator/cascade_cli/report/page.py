"""The report of a simulation."""

from collections.abc import Sequence
from html import escape

from cascade_cli.report import findings
from cascade_cli.report.chart import Chart
from cascade_cli.report.comparison import Row, compare
from cascade_cli.report.html import Plots, belongs, document
from cascade_cli.report.latency_charts import against_load, by_prompt_length, distributions
from cascade_cli.report.stage_charts import load_over_time, plan_over_lengths
from cascade_cli.report.study import Study
from cascade_cli.report.style import Pen, pens
from cascade_cli.report.tables import setup_list, summary_table


def render(study: Study) -> str:
    """The whole file."""
    rows = compare(study)
    colours = pens(study.policies)
    plots = Plots()
    sections = (
        _head(study, rows),
        _controls(study, rows),
        _summary(study, rows, colours),
        _latency(study, rows, colours, plots),
        _lengths(study, rows, colours, plots),
        _against_load(study, rows, colours, plots),
        _stages(study, plots),
        _setup(study),
    )
    return document(f"{study.setup.trace}: {', '.join(study.policies)}", sections, plots)


def _head(study: Study, rows: Sequence[Row]) -> str:
    setup = study.setup
    return (
        f"<header><h1>{escape(findings.headline(_at(rows, study.loads[-1])))}</h1>"
        f'<p class="soft">Simulated: {escape(setup.trace)} ({escape(setup.traffic)}) at load '
        f"{study.loads[-1]:g} on {setup.instances} instances, cost model "
        f"<b>{escape(setup.profile)}</b>, {setup.requests:,} requests, "
        f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}.</p></header>"
    )


def _controls(study: Study, rows: Sequence[Row]) -> str:
    """What to show; nothing to choose, no control."""
    selects = []
    if len(study.loads) > 1:
        loads = [f"{load:g}" for load in study.loads]
        selects.append(_select("load", "Load", loads, loads[-1]))
    selects.append(_select("policy", "Stages of", study.policies, _best_staged(study, rows)))
    return f'<div class="controls">{"".join(selects)}</div>'


def _best_staged(study: Study, rows: Sequence[Row]) -> str:
    """The policy whose stages are shown first: the best that has any, else the best."""
    staged = {
        run.policy
        for run in study.runs
        if any(len(change.ends) > 1 for change in run.outcome.stage_changes)
    }
    last = _at(rows, study.loads[-1])
    best = min(last, key=lambda row: (row.policy not in staged, row.figures.e2e_mean))
    return best.policy


def _select(name: str, label: str, values: Sequence[str], chosen: str) -> str:
    options = "".join(
        f'<option value="{escape(value)}"{" selected" if value == chosen else ""}>'
        f"{escape(value)}</option>"
        for value in values
    )
    return f'<label>{label} <select id="choose-{name}">{options}</select></label>'


def _summary(study: Study, rows: Sequence[Row], colours: dict[str, Pen]) -> str:
    tables = "".join(
        f"<div{belongs(load)}>{summary_table(_at(rows, load), study.setup, colours)}</div>"
        for load in study.loads
    )
    return f"<section><h2>Summary</h2>{tables}</section>"


def _latency(study: Study, rows: Sequence[Row], colours: dict[str, Pen], plots: Plots) -> str:
    return _section(
        "Latency",
        [
            chart
            for load in study.loads
            for chart in distributions(study, load, _at(rows, load), colours)
        ],
        plots,
    )


def _lengths(study: Study, rows: Sequence[Row], colours: dict[str, Pen], plots: Plots) -> str:
    return _section(
        "Who gains, who pays",
        [
            chart
            for load in study.loads
            for chart in by_prompt_length(study, load, _at(rows, load), colours)
        ],
        plots,
    )


def _against_load(study: Study, rows: Sequence[Row], colours: dict[str, Pen], plots: Plots) -> str:
    if len(study.loads) < 2:
        return ""
    return _section("Throughput at the targets", against_load(rows, colours), plots)


def _stages(study: Study, plots: Plots) -> str:
    return _section(
        "Stages",
        [
            chart
            for load in study.loads
            for policy in study.policies
            for make in (plan_over_lengths, load_over_time)
            for chart in make(study, load, policy)
        ],
        plots,
    )


def _section(title: str, charts: Sequence[Chart], plots: Plots) -> str:
    return f"<section><h2>{title}</h2>{''.join(plots.place(chart) for chart in charts)}</section>"


def _setup(study: Study) -> str:
    return f"<section><h2>Setup and cost model</h2>{setup_list(study)}</section>"


def _at(rows: Sequence[Row], load: float) -> list[Row]:
    return [row for row in rows if row.load == load]
