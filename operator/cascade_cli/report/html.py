"""A page as one HTML file: works from disk, without a network, in light and dark."""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

from cascade_cli.report.chart import Chart

_POLICY_OF_CONTENT: Final = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""Nothing is fetched, whatever a trace or a policy is called."""


class Plots:
    """The figures of the page, by the id of their place."""

    def __init__(self) -> None:
        self._figures: list[str] = []

    def place(self, chart: Chart) -> str:
        """The element of a chart, with its title and note."""
        identity = f"plot-{len(self._figures)}"
        self._figures.append(f'"{identity}":{chart.figure.to_json()}')
        height = int(chart.figure.layout.height)
        note = f'<p class="soft">{escape(chart.note)}</p>' if chart.note else ""
        return (
            f"<div{belongs(chart.load, chart.policy)}><h3>{escape(chart.finding)}</h3>{note}"
            f'<div class="plot" id="{identity}" style="height:{height}px"></div></div>'
        )

    def json(self) -> str:
        """All figures, such that no text in them can end the script element."""
        return ("{" + ",".join(self._figures) + "}").replace("<", "\\u003c")


def document(title: str, sections: Iterable[str], plots: Plots) -> str:
    """The whole file. All plots are drawn by the script inside it."""
    body = "\n".join(section for section in sections if section)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY_OF_CONTENT}">
<title>{escape(title)}</title>
<style>{_resource("page.css")}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{plots.json()}</script>
<script>{get_plotlyjs()}</script>
<script>{_resource("page.js")}</script>
</body>
</html>
"""


def _resource(name: str) -> str:
    return files("cascade_cli.report").joinpath(name).read_text(encoding="utf-8")


def belongs(load: float | None = None, policy: str | None = None) -> str:
    """Attributes by which the script shows and hides a part."""
    parts = "" if load is None else f' data-load="{load:g}"'
    return parts if policy is None else f'{parts} data-policy="{escape(policy)}"'
