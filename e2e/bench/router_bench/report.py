"""What the terminal shows of a run."""

from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import RenderableType
from rich.table import Table

from e2e.bench.router_bench.cells import MEMORY_STREAMS, MEMORY_TOKENS, Outcome
from e2e.bench.router_bench.contestants import DIRECT
from e2e.bench.router_bench.figures import Ceiling, Figures, Held, Requests, Row
from e2e.bench.router_bench.goals import Goal, judged
from e2e.bench.router_bench.measurement import Spread
from e2e.bench.router_bench.wire import SPREAD, STEP

PACES: Final = {
    STEP: "in steps: all streams get their event in one burst, as from a batching engine",
    SPREAD: "spread: each stream at its own time",
}
SLOW: Final = 0.95
"""Share of the demanded events per second below which a row says so."""


def report(outcomes: Sequence[Outcome], rate: float) -> Iterable[RenderableType]:
    """Tables and lines, in their order."""
    figures = Figures(outcomes)
    rows = figures.rows()
    for pace in dict.fromkeys(row.pace for row in rows):
        yield streams_table(pace, [row for row in rows if row.pace == pace], rate)
    if requests := figures.requests():
        yield requests_table(requests)
    if held := figures.held():
        yield memory_table(held)
    if goals := judged(rows, held):
        yield goals_table(goals)
    yield from failure_lines(outcomes)
    if ceiling := figures.ceiling():
        yield ceiling_line(ceiling, rate)


def streams_table(pace: str, rows: Sequence[Row], rate: float) -> Table:
    """CPU, latency and memory of all routers at one pace."""
    table = _table(
        f"{rate:,.0f} events per second, {PACES[pace]}",
        "CPU: per event, median (least to most); x: multiple of the best Rust router's in the same "
        "repetition; kernel: share of system time; added: over the way straight to the engine; "
        "RSS: of the largest process, all streams open",
    )
    for heading in ("streams", "router", "CPU µs", "x", "kernel", "ITL p50 ms", "ITL p99 ms",
                    "TTFT ms", "RSS MB"):  # fmt: skip
        table.add_column(heading, justify="left" if heading == "router" else "right", no_wrap=True)
    streams = 0
    for row in rows:
        if row.router == DIRECT and not row.failures:
            continue
        if row.streams != streams and streams:
            table.add_section()
        table.add_row(f"{row.streams:,}" if row.streams != streams else "", *_cells(row, rate))
        streams = row.streams
        for role, value in row.by_role.items():
            table.add_row("", f"  {role}", f"{value:.1f}")
    return table


def _cells(row: Row, rate: float) -> list[str]:
    if row.cpu_us is None:
        return [row.router, "[red]failed[/red]"]
    slow = row.rate is not None and row.rate < SLOW * rate
    notes = f" ({row.rate:,.0f}/s)" if slow else ""
    failed = f" [red]({len(row.failures)} failed)[/red]" if row.failures else ""
    return [
        row.router + notes + failed,
        _spread(row.cpu_us, ".1f"),
        "" if row.ratio is None else f"{row.ratio.median:.2f}",
        "" if row.kernel is None else f"{row.kernel:.0%}",
        _number(row.itl_p50_ms),
        _number(row.itl_p99_ms),
        _number(row.ttft_p50_ms),
        _number(row.rss_mb, ".0f"),
    ]


def requests_table(requests: Sequence[Requests]) -> Table:
    """Short unstreamed requests."""
    table = _table("Short unstreamed requests, 16 connections, as fast as they go", None)
    for heading in ("router", "per second", "CPU µs", "p50 ms", "p99 ms"):
        table.add_column(heading, justify="left" if heading == "router" else "right", no_wrap=True)
    for one in requests:
        if one.per_second is None:
            table.add_row(one.router, "[red]failed[/red]")
            continue
        cpu = "" if one.router == DIRECT else _spread(one.cpu_us, ".0f")
        table.add_row(
            one.router, _spread(one.per_second, ",.0f"), cpu, _number(one.p50_ms),
            _number(one.p99_ms),
        )  # fmt: skip
    return table


def memory_table(held: Sequence[Held]) -> Table:
    """Memory with long streams open."""
    table = _table(
        f"Memory with {MEMORY_STREAMS:,} open streams of {MEMORY_TOKENS:,} tokens each", None
    )
    for heading in ("router", "process", "RSS MB", "PSS MB"):
        table.add_column(heading, justify="right" if "MB" in heading else "left", no_wrap=True)
    for one in held:
        for role, megabytes in one.rss_mb.items():
            failed = " [red](failed)[/red]" if one.failure else ""
            table.add_row(one.router + failed, role, f"{megabytes:.0f}", f"{one.pss_mb[role]:.0f}")
        if not one.rss_mb:
            table.add_row(one.router, "[red]failed[/red]")
    return table


def goals_table(goals: Sequence[Goal]) -> Table:
    """The goals, each with its verdict."""
    table = _table("Goals", None)
    for heading in ("goal", "measured", "at most", ""):
        table.add_column(heading, justify="right" if heading == "measured" else "left")
    for goal in goals:
        verdict = "[green]met[/green]" if goal.met else "[red]missed[/red]"
        table.add_row(goal.what, goal.value, goal.limit, verdict)
    return table


def failure_lines(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """What went wrong where."""
    for one in outcomes:
        if one.failure is not None:
            yield f"[red]failed[/red]: {one.cell}, repetition {one.cell.repeat + 1}: {one.failure}"


def ceiling_line(ceiling: Ceiling, rate: float) -> str:
    """What engine and client can do."""
    return (
        f"Engine and client alone do {ceiling.events_per_second:,.0f} events per second, at "
        f"{ceiling.engine_us:.1f} and {ceiling.client_us:.1f} µs of CPU each; the bench asks for "
        f"{rate:,.0f}."
    )


def _table(title: str, caption: str | None) -> Table:
    return Table(
        title=title, caption=caption, box=box.SIMPLE_HEAD, padding=(0, 1), title_justify="left",
        caption_justify="left",
    )  # fmt: skip


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return ""
    if value.least == value.most:
        return f"{value.median:{form}}"
    return f"{value.median:{form}} ({value.least:{form}} to {value.most:{form}})"


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else f"{value:{form}}"
