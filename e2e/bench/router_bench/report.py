"""What the terminal shows of a run."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from e2e.bench.goal import goals_table
from e2e.bench.router_bench.cells import LANES, MEMORY_STREAMS, MEMORY_TOKENS, Outcome
from e2e.bench.router_bench.contestants import DIRECT
from e2e.bench.router_bench.endurance import Verdict
from e2e.bench.router_bench.figures import Ceiling, Figures, Held, Requests, Row
from e2e.bench.router_bench.goals import judged
from e2e.bench.router_bench.measurement import Spread
from e2e.bench.router_bench.soak import ROLES, SoakPlan
from e2e.bench.router_bench.wire import SPREAD, STEP

PACES: Final = {
    STEP: "in steps: all streams get their event in one burst, as from a batching engine",
    SPREAD: "spread: each stream at its own time",
}
LEGEND: Final = (
    "CPU: per event, median (least to most of the repetitions). x: as a multiple of the best Rust "
    "router's in the same repetition. kernel: share of system time. ITL, TTFT: added to what "
    "the way straight to the engine takes. RSS: of the largest process, all streams open.\n"
)
SLOW: Final = 0.95
"""Share of the demanded events per second below which a row says so."""
FAILED: Final = "[red]failed[/red]"


def report(outcomes: Sequence[Outcome], rate: float) -> Iterable[RenderableType]:
    """Tables and lines, in their order."""
    figures = Figures(outcomes)
    rows = figures.rows()
    for pace in dict.fromkeys(row.pace for row in rows):
        yield f"{rate:,.0f} events per second, {PACES[pace]}"
        yield streams_table([row for row in rows if row.pace == pace], rate)
    if rows:
        yield LEGEND
    if requests := figures.requests():
        yield f"Short unstreamed requests on {LANES} connections, as fast as they go"
        yield requests_table(requests)
    if held := figures.held():
        yield f"Memory with {MEMORY_STREAMS:,} open streams of {MEMORY_TOKENS:,} tokens each"
        yield memory_table(held)
    if goals := judged(rows, held):
        yield "Goals"
        yield goals_table(goals)
    yield from failure_lines(outcomes)
    if ceiling := figures.ceiling():
        yield ceiling_line(ceiling, rate)


def streams_table(rows: Sequence[Row], rate: float) -> Table:
    """CPU, latency and memory of all routers at one pace."""
    table = _table(
        *("streams", "router", "CPU µs", "x", "kernel"),
        *("ITL p50 ms", "ITL p99 ms", "TTFT ms", "RSS MB"),
    )
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


def requests_table(requests: Sequence[Requests]) -> Table:
    """Short unstreamed requests."""
    table = _table("router", "per second", "CPU µs", "p50 ms", "p99 ms")
    for one in requests:
        if one.per_second is None:
            table.add_row(one.router, FAILED)
            continue
        table.add_row(
            one.router + _some_failed(one.failures),
            _spread(one.per_second, ",.0f"),
            "" if one.router == DIRECT else _spread(one.cpu_us, ".0f"),
            _number(one.p50_ms),
            _number(one.p99_ms),
        )
    return table


def memory_table(held: Sequence[Held]) -> Table:
    """Memory with long streams open."""
    table = _table("router", "process", "RSS MB", "PSS MB")
    for one in held:
        if one.failure is not None:
            table.add_row(one.router, FAILED)
            continue
        for role, megabytes in one.rss_mb.items():
            table.add_row(one.router, role, f"{megabytes:.0f}", f"{one.pss_mb[role]:.0f}")
    return table


def failure_lines(outcomes: Sequence[Outcome]) -> Iterable[str]:
    """What went wrong where."""
    for one in outcomes:
        if one.failure is not None:
            where = f"{one.cell}, repetition {one.cell.repeat + 1}"
            yield f"{FAILED}: {where}: {escape(one.failure)}"


def ceiling_line(ceiling: Ceiling, rate: float) -> str:
    """What engine and client can do."""
    return (
        f"Engine and client alone do {ceiling.events_per_second:,.0f} events per second, at "
        f"{ceiling.engine_us:.1f} and {ceiling.client_us:.1f} µs of CPU each; the bench asks for "
        f"{rate:,.0f}."
    )


def sample_line(line: Mapping[str, Any]) -> str:
    """One sample of a long run."""
    memory = ", ".join(
        f"{role} {one['rss_mb']:.1f} MB, {one['open_files']:,} files"
        for role, one in line["memory"].items()
        if role in ROLES
    )
    return f"{line['seconds']:.0f} s: {line['events']:,} events, {line['answers']:,} ends; {memory}"


def soak_report(plan: SoakPlan, verdict: Verdict) -> Iterable[str]:
    """What came of a long run."""
    yield (
        f"{plan.streams:,} open streams for {plan.seconds:,.0f} s through two hops, "
        f"{plan.rate:,.0f} events per second, judged after {plan.warm_up:,.0f} s:"
    )
    for growth in verdict.growths:
        yield f"  {growth}"
    for fault in verdict.faults:
        yield f"  [red]{escape(fault)}[/red]"
    yield "[green]passed[/green]" if verdict.passed else FAILED


def _cells(row: Row, rate: float) -> list[str]:
    if row.cpu_us is None:
        return [row.router, FAILED]
    slow = row.rate is not None and row.rate < SLOW * rate
    return [
        row.router + (f" ({row.rate:,.0f}/s)" if slow else "") + _some_failed(row.failures),
        _spread(row.cpu_us, ".1f"),
        "" if row.ratio is None else f"{row.ratio.median:.2f}",
        "" if row.kernel is None else f"{row.kernel:.0%}",
        _number(row.itl_p50_ms),
        _number(row.itl_p99_ms),
        _number(row.ttft_p50_ms),
        _number(row.rss_mb, ".0f"),
    ]


def _some_failed(failures: Sequence[str]) -> str:
    return f" [red]({len(failures)} failed)[/red]" if failures else ""


def _table(*headings: str) -> Table:
    """An empty table; words stand left, numbers right."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    for heading in headings:
        words = heading in ("router", "process")
        table.add_column(heading, justify="left" if words else "right", no_wrap=True)
    return table


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return ""
    if value.least == value.most:
        return f"{value.median:{form}}"
    return f"{value.median:{form}} ({value.least:{form}} to {value.most:{form}})"


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else f"{value:{form}}"
