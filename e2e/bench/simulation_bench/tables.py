"""Experiments as Markdown tables."""

import math
from collections.abc import Sequence

from e2e.bench.simulation_bench.experiment import Experiment, Place, Point, Shown, label
from e2e.bench.simulation_bench.results import Results
from e2e.bench.slices_bench.interval import show


def section(experiment: Experiment, results: Results) -> str:
    """The heading of an experiment, how to read it, and its tables."""
    parts = [f"### {experiment.title}", experiment.text]
    for point in experiment.table_points:
        for shown in experiment.shown:
            parts += [_caption(experiment, point, shown), _table(experiment, results, point, shown)]
    return "\n\n".join(parts)


def markdown_table(
    head: Sequence[str], body: Sequence[Sequence[str]], *, words: bool = False
) -> str:
    """Names on the left, numbers on the right; with `words`, all on the left."""
    lines = [head, ["---", *("---" if words else "---:" for _ in head[1:])], *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _caption(experiment: Experiment, point: Point, shown: Shown) -> str:
    where = f", {label(point)}" if point else ""
    against = f" as a multiple of {experiment.baseline}'s" if shown.form is None else ""
    return f"**{shown.words[0].upper()}{shown.words[1:]}{against}{where}**"


def _table(experiment: Experiment, results: Results, table: Point, shown: Shown) -> str:
    columns = experiment.column_points
    body = []
    for policy in experiment.policies:
        for row in experiment.row_points:
            places = [Place(table, column, row) for column in columns]
            cells = [_cell(results, experiment.name, policy, place, shown) for place in places]
            body.append([", ".join(part for part in (policy, label(row)) if part), *cells])
    return markdown_table(["", *(label(column) for column in columns)], body)


def _cell(results: Results, name: str, policy: str, place: Place, shown: Shown) -> str:
    if shown.form is None:
        ratio = results.relative(name, policy, place, shown.figure)
        return "–" if math.isnan(ratio.mean) else show(ratio, ".2f")
    value = results.absolute(name, policy, place, shown.figure)
    return f"{value.mean * shown.scale:{shown.form}}"
