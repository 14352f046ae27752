"""What a bench holds its subject to, and how that is shown."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich import box
from rich.table import Table


@dataclass(frozen=True)
class Goal:
    """One goal: its number, the limit, both with their unit, and whether it is met."""

    what: str
    value: str
    limit: str
    met: bool


def goals_table(goals: Iterable[Goal]) -> Table:
    """The goals, each with its verdict."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("goal", no_wrap=True)
    table.add_column("measured", justify="right", no_wrap=True)
    for heading in ("at most", "verdict"):
        table.add_column(heading, no_wrap=True)
    for goal in goals:
        verdict = "[green]met[/green]" if goal.met else "[red]missed[/red]"
        table.add_row(goal.what, goal.value, goal.limit, verdict)
    return table
