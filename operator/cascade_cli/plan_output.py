"""Prints the answer of `cascade plan` for people."""

from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cascade_cli import words
from cascade_cli.answer import Answer
from cascade_cli.assumptions import assumptions
from cascade_cli.layout import WIDEST, borderless, indented, section, unpadded
from cascade_cli.observed import Observed
from cascade_planner.plan import Alternative, Forecast

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
    for line in unpadded(captured.get()):
        print(line, file=console.file)


def _print(console: Console, answer: Answer, explain: bool) -> None:
    section(console, "Traffic", words.traffic(answer))
    indented(console, _lengths(answer.observed))
    section(console, "Pool", words.pool(answer))
    section(console, "Plan", words.plan(answer))
    indented(console, _stages(answer), _worth(answer))
    if explain:
        section(console, "Others", "the best plan for each number of stages:")
        indented(console, _others(answer))
        section(console, "Assumes", *assumptions(answer))
    if answer.advice:
        section(console, "Binds", *answer.advice)
    sensitivity = () if answer.sensitivity is None else (answer.sensitivity.sentence,)
    section(console, "Note", *sensitivity, *answer.notes, _HONEST)


def _lengths(observed: Observed) -> Table:
    table = borderless("tokens", "mean", "p50", "p95")
    rows = (("prompt", observed.prompts), ("output", observed.outputs), ("both", observed.wholes))
    for name, lengths in rows:
        values = (lengths.mean, lengths.p50, lengths.p95)
        table.add_row(name, *("" if value is None else words.number(value) for value in values))
    return table


def _stages(answer: Answer) -> Table:
    table = borderless("lengths", "instances", "load", "TTFT", "TPOT", "E2E", "batch", "KV")
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
    table = borderless("mean of all requests", "TTFT", "TPOT", "E2E", "cost")
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
    table = borderless("stages", "cost", "against one", "up to tokens x instances")
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
