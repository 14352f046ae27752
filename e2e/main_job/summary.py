"""The table at the end of the demo."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from e2e.main_job.outcome import Outcome, change_percent

ROWS = (
    ("ttft", "mean", "TTFT mean"),
    ("ttft", "p99", "TTFT p99"),
    ("tpot", "mean", "TPOT mean"),
    ("tpot", "p99", "TPOT p99"),
    ("e2e", "mean", "end to end mean"),
    ("e2e", "p99", "end to end p99"),
)


def summary(outcome: Outcome) -> RenderableType:
    """Everything that the run found, for a terminal of 80 columns or more."""
    return Group(_plan(outcome), _integrity(outcome), _latency(outcome), _verdict(outcome))


def _plan(outcome: Outcome) -> RenderableType:
    table = Table(title="Plan made from live traffic", title_justify="left", expand=False)
    for column in ("stage", "serves lengths", "instances"):
        table.add_column(column, justify="right")
    for stage in outcome.stages:
        table.add_row(
            str(stage["name"]),
            f"{stage['minLength']} to {stage['maxLength']} tokens",
            str(stage["instances"]),
        )
    return Group(table, Text(f"Why: {outcome.plan_message}\n"))


def _integrity(outcome: Outcome) -> RenderableType:
    table = Table(title="Nothing lost", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for label, value in (
        ("warm pods moved", f"{outcome.pods_moved} in {outcome.move_seconds:.1f} s"),
        ("pods restarted", str(outcome.pods_restarted)),
        ("requests sent", str(outcome.total("requestsSent"))),
        ("requests completed", str(outcome.total("requestsCompleted"))),
        ("requests lost", str(outcome.total("requestsLost"))),
        ("hand-overs between engines", str(outcome.total("handovers"))),
        ("of these, to longer stages", str(outcome.total("handoversToLongerStages"))),
        (
            "streams compared / wrong",
            f"{outcome.total('streamsCompared')} / {outcome.total('streamsWrong')}",
        ),
    ):
        table.add_row(label, value)
    return table


def _latency(outcome: Outcome) -> RenderableType:
    load = outcome.load
    table = Table(
        title=(
            f"Latency, same {load['seconds']:g} s of the trace at {load['requestsPerSecond']:g} "
            f"requests/s ({outcome.boundaries} boundaries)"
        ),
        title_justify="left",
    )
    table.add_column("ms")
    for column in ("one stage", f"{len(outcome.stages)} stages", "change"):
        table.add_column(column, justify="right")
    before, after = outcome.before.latency, outcome.after.latency
    for kind, figure, label in ROWS:
        change = change_percent(before[kind], after[kind], figure)
        table.add_row(
            label,
            f"{before[kind][figure]:.0f}",
            f"{after[kind][figure]:.0f}",
            Text(f"{change:+.0f} %", style="green" if change < 0 else "yellow"),
        )
    return table


def _verdict(outcome: Outcome) -> RenderableType:
    failures = outcome.failures()
    if not failures:
        return Text(f"\nDone in {outcome.minutes:.1f} minutes.", style="bold green")
    lines = "\n".join(f"  - {failure}" for failure in failures)
    return Text(f"\nThis run is no success:\n{lines}", style="bold red")
