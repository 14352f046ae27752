"""Prints the answer of `cascade plan` for people."""

from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cascade_cli import words
from cascade_cli.answer import Answer
from cascade_cli.assumptions import assumptions
from cascade_cli.observed import Observed
from cascade_planner.plan import Alternative, Forecast

WIDEST: Final = 120
"""Columns beyond which prose is hard to read."""
NARROWEST: Final = 60
"""Columns that a table of which a column can be wrapped takes, if it needs them."""
_HONEST: Final = (
    "These are closed forms of steady traffic and stages whose boundaries bind. `cascade simulate` "
    "tells what dispatch by price makes of such a plan, request by request."
)


def print_answer(answer: Answer, *, explain: bool) -> None:
    """Print `answer`; with what else was looked at and what is assumed, if `explain`."""
    console = Console(highlight=False)
    console.width = min(console.width, WIDEST)
    with console.capture() as captured:
        _print(console, answer, explain)
    # Tables are padded to the width of the terminal; text in a file should not be.
    for line in captured.get().splitlines():
        print(line.rstrip(), file=console.file)


def _print(console: Console, answer: Answer, explain: bool) -> None:
    _section(console, "Traffic", words.traffic(answer))
    _indented(console, _lengths(answer.observed))
    _section(console, "Pool", words.pool(answer))
    _section(console, "Plan", words.plan(answer))
    _indented(console, _stages(answer), _worth(answer))
    if explain:
        _section(console, "Others", "the best plan for each number of stages:")
        _indented(console, _others(answer))
        _section(console, "Assumes", *assumptions(answer))
    if answer.advice:
        _section(console, "Binds", *answer.advice)
    sensitivity = () if answer.sensitivity is None else (answer.sensitivity.sentence,)
    _section(console, "Note", *sensitivity, *answer.notes, _HONEST)


def _section(console: Console, title: str, *sentences: str) -> None:
    """A title with its sentences beside it, a line or more each."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=7)
    grid.add_column(overflow="fold")
    for place, sentence in enumerate(sentences):
        grid.add_row(Text("" if place else title, style="bold"), Text(sentence))
    console.print(grid)


def _indented(console: Console, *tables: Table) -> None:
    width = console.width
    for table in tables:
        padded = Padding(table, (1, 0, 0, 2), expand=False)
        # In a narrow terminal a broken line can be read, a number that was cut cannot.
        console.width = WIDEST if all(one.no_wrap for one in table.columns) else NARROWEST
        console.width = max(width, console.measure(padded).maximum)
        console.print(padded)
    console.width = width
    console.print()


def _table(first: str, *others: str) -> Table:
    """A table without lines: names to the left, numbers to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _lengths(observed: Observed) -> Table:
    table = _table("tokens", "mean", "p50", "p95")
    rows = (("prompt", observed.prompts), ("output", observed.outputs), ("both", observed.wholes))
    for name, lengths in rows:
        values = (lengths.mean, lengths.p50, lengths.p95)
        table.add_row(name, *("" if value is None else words.number(value) for value in values))
    return table


def _stages(answer: Answer) -> Table:
    table = _table("lengths", "instances", "load", "TTFT", "TPOT", "E2E", "batch", "KV")
    for stage in answer.plan.stages:
        forecast = stage.forecast
        assert forecast is not None, "a plan for traffic has forecasts"
        table.add_row(
            words.stage_range(stage.min_length, stage.max_length),
            str(stage.instances),
            words.share(forecast.load),
            *_times(forecast),
            f"{forecast.batch:.0f}",
            words.share(forecast.kv_use),
        )
    return table


def _worth(answer: Answer) -> Table:
    """The plan against one stage, over all requests."""
    plan = answer.plan
    ours, one = plan.forecast, plan.one_stage_forecast
    assert ours is not None, "a plan for traffic has forecasts"
    assert one is not None, "a plan for traffic has forecasts"
    table = _table("mean of all requests", "TTFT", "TPOT", "E2E", "cost")
    table.add_row("one stage", *_times(one), words.amount(plan.one_stage_cost))
    if len(plan.stages) > 1:
        table.add_row("this plan", *_times(ours), words.amount(plan.cost))
        pairs = (
            (one.ttft_ms, ours.ttft_ms),
            (one.tpot_ms, ours.tpot_ms),
            (one.e2e_ms, ours.e2e_ms),
            (plan.one_stage_cost, plan.cost),
        )
        table.add_row("change", *(_change(before, after) for before, after in pairs))
    return table


def _change(before: float, after: float) -> Text:
    percent = words.change_percent(before, after)
    style = "" if abs(percent) < 0.05 else "green" if percent < 0 else "red"
    return Text(words.signed_percent(percent), style=style)


def _times(forecast: Forecast) -> tuple[str, str, str]:
    return (
        words.milliseconds(forecast.ttft_ms),
        words.milliseconds(forecast.tpot_ms),
        words.milliseconds(forecast.e2e_ms),
    )


def _others(answer: Answer) -> Table:
    table = _table("stages", "cost", "against one", "up to tokens x instances")
    table.columns[3].justify = "left"
    table.columns[3].no_wrap = False
    for one in answer.plan.best_by_stage_count:
        table.add_row(
            f"{len(one.partition.ends)}{_mark(one, answer)}",
            words.amount(one.cost),
            words.signed_percent(words.change_percent(answer.plan.one_stage_cost, one.cost)),
            words.partition(one.partition),
        )
    return table


def _mark(one: Alternative, answer: Answer) -> str:
    if one.partition == answer.plan.partition:
        return "  chosen"
    return "  runner-up" if one == answer.plan.runner_up else ""
