"""Runs the cells that are not finished yet, in several processes."""

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cascade_cli import scenario
from cascade_cli.parallel import in_processes
from e2e.bench.simulation_bench import cells as own
from e2e.bench.simulation_bench.cache import SOURCES, Cache, Figures, digest
from e2e.bench.simulation_bench.cells import FILES, answer
from e2e.bench.simulation_bench.experiment import Cell, Experiment


def run(experiments: Iterable[Experiment], cache: Cache, jobs: int) -> dict[Cell, Figures]:
    """The answers to all cells. Each is kept as soon as it is there, so that the next run of an
    interrupted one begins where that ended."""
    cells = dict.fromkeys(cell for experiment in experiments for cell in experiment.cells())
    answers: dict[Cell, Figures] = {}
    for cell in cells:
        known = cache.get(cell.question)
        if known is not None:
            answers[cell] = known
    missing = sorted((cell for cell in cells if cell not in answers), key=_work, reverse=True)
    with _progress() as progress:
        task = progress.add_task("simulating", total=len(cells), completed=len(answers))
        for position, figures in in_processes(answer, missing, jobs):
            cell = missing[position]
            cache.put(cell.question, figures)
            answers[cell] = figures
            progress.advance(task)
            _say_in_a_file(progress, len(answers), len(cells))
    return answers


def _say_in_a_file(progress: Progress, done: int, total: int) -> None:
    """Where no bar can be drawn, a line for each twentieth."""
    if not progress.console.is_terminal and done * 20 // total > (done - 1) * 20 // total:
        progress.console.print(f"{done} of {total} cells")


def code_digest() -> str:
    """Hash of everything but the cell itself that an answer depends on."""
    modules = (Path(str(module.__file__)) for module in (scenario, own))
    return digest([*SOURCES, *FILES.values(), *modules])


def _work(cell: Cell) -> int:
    """Long ones first, so that no process waits for a last long one alone."""
    return cell.scenario.requests


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
