"""Measures routers beside each other: `e2e/bench/router`."""

import argparse
import json
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from e2e.bench.router_bench.cells import Kind, Outcome, Plan, in_turn, run
from e2e.bench.router_bench.contestants import DIRECT, ROOT, Contestant, contestants
from e2e.bench.router_bench.figures import Figures, as_json
from e2e.bench.router_bench.goals import judged
from e2e.bench.router_bench.report import report

QUICK: Final = {"streams": (64, 512), "paces": ("step",), "repeat": 1, "seconds": 4.0,
                "memory": False}  # fmt: skip
WIDTH: Final = 110


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write figures where asked to; with --check, 1 for a missed goal."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _options(arguments)
    _allow_many_files()
    plan = _plan(options)
    outcomes = _measure(plan, _chosen(options))
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for part in report(outcomes, plan.rate):
        console.print(part)
    if options.json:
        options.json.write_text(json.dumps(as_json(outcomes), indent=1) + "\n", encoding="utf-8")
    figures = Figures(outcomes)
    missed = [goal for goal in judged(figures.rows(), figures.held()) if not goal.met]
    return 1 if options.check and missed else 0


def _measure(plan: Plan, chosen: Mapping[str, Contestant]) -> list[Outcome]:
    """Run all measurements, telling of each."""
    cells = list(in_turn(plan, chosen))
    outcomes = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(cells))
        for number, (cell, contestant) in enumerate(cells, 1):
            progress.update(task, description=str(cell))
            outcome = run(cell, contestant, plan)
            outcomes.append(outcome)
            progress.advance(task)
            progress.console.print(f"{number}/{len(cells)} {cell}: {_in_short(outcome)}")
    return outcomes


def _in_short(outcome: Outcome) -> str:
    if outcome.failure is not None:
        return f"failed: {outcome.failure}"
    if outcome.cell.kind is not Kind.STREAMS:
        return "done"
    rows = Figures([outcome]).rows()
    parts = [f"{row.pace} {row.cpu_us.median:.1f} µs" for row in rows if row.cpu_us is not None]
    return ", ".join(parts) or "done"


def _chosen(options: argparse.Namespace) -> dict[str, Contestant]:
    known = contestants(options.checkout)
    return {
        name: one
        for name, one in known.items()
        if name == DIRECT or not options.only or name in options.only
    }


def _plan(options: argparse.Namespace) -> Plan:
    chosen = {
        name: value
        for name in ("streams", "paces", "repeat", "seconds", "rate")
        if (value := getattr(options, name)) is not None
    }
    return Plan(**{**(QUICK if options.quick else {}), **chosen})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [name for name in contestants() if name != DIRECT]
    parser = argparse.ArgumentParser(
        prog="e2e/bench/router",
        description="Measures what a streamed event costs on its way through our router and "
        "through others, in one run with the same engine and client.",
    )
    parser.add_argument("--streams", type=_positive, nargs="+", metavar="N", help="open streams")
    parser.add_argument("--only", action="append", choices=names, help="only this router")
    parser.add_argument("--repeat", type=_positive, metavar="N", help="runs of each measurement")
    parser.add_argument("--paces", nargs="+", choices=("step", "spread"), help="how events come")
    parser.add_argument("--seconds", type=float, metavar="S", help="length of a measurement")
    parser.add_argument("--rate", type=float, metavar="N", help="events per second, all streams")
    parser.add_argument("--quick", action="store_true", help="64 and 512 streams, once, in steps")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parser.add_argument("--check", action="store_true", help="fail when a goal is missed")
    parser.add_argument(
        "--checkout", type=Path, default=ROOT, metavar="DIR",
        help="measure the router of another checkout of this repository",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _allow_many_files() -> None:
    """Every process here inherits it: a socket for each stream and side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
