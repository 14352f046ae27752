"""Shows verdicts as they come, and all of them at the end."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from e2e.continuity_suite.judge import Result, Verdict

_STYLES: Final = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.NOT_SUPPORTED: "yellow",
    Verdict.SKIPPED: "dim",
}
_NAME_WIDTH: Final = 66


class LiveTable:
    """A line for each case when it is judged, under a heading for each group."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._group = ""

    def add(self, result: Result) -> None:
        """One more verdict."""
        case = result.case
        if case.group != self._group:
            self._group = case.group
            self._console.print(f"\n[bold]{case.group}[/]")
        style = _STYLES[result.verdict]
        note = f"  [dim]pinned: {result.pinned}[/]" if result.pinned else ""
        name = escape(case.name.ljust(_NAME_WIDTH))
        self._console.print(
            f"  [{style}]{result.verdict:<13}[/] {name} [dim]{len(case.asks):>3} asked "
            f"{result.seconds:5.1f} s[/]{note}",
            soft_wrap=True,
        )
        if result.difference:
            self._console.print(f"      {escape(result.difference)}", soft_wrap=True)


def totals(results: Sequence[Result]) -> Table:
    """How many of each verdict, by group."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("group")
    for verdict in Verdict:
        table.add_column(verdict, justify="right")
    table.add_column("requests", justify="right")
    groups = list(dict.fromkeys(result.case.group for result in results))
    for group in groups:
        table.add_row(*_row(group, [one for one in results if one.case.group == group]))
    table.add_section()
    table.add_row(*_row("all", results))
    return table


def _row(name: str, results: Sequence[Result]) -> list[str]:
    counts = Counter(result.verdict for result in results)
    asked = sum(
        len(result.case.asks) for result in results if result.verdict is not Verdict.SKIPPED
    )
    return [name, *(str(counts[verdict] or "") for verdict in Verdict), str(asked)]


def to_json(results: Sequence[Result], url: str, reference: str | None) -> str:
    """All of it, for programs."""
    cases: list[dict[str, Any]] = [
        {
            "group": result.case.group,
            "name": result.case.name,
            "verdict": result.verdict.value,
            "difference": result.difference or None,
            "pinned": result.pinned or None,
            "requests": len(result.case.asks),
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]
    counts = Counter(result.verdict.value for result in results)
    totals = {verdict.value: counts[verdict.value] for verdict in Verdict}
    document = {"url": url, "reference": reference, "totals": totals, "cases": cases}
    return json.dumps(document, indent=1)
