"""Measures routers beside each other: `e2e/bench/router`."""

import argparse
import json
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.cells import Kind, Outcome, Plan, run
from e2e.bench.router_bench.contestants import DIRECT, OURS_2, ROOT, Contestant, contestants
from e2e.bench.router_bench.figures import Figures, as_json
from e2e.bench.router_bench.goals import judged
from e2e.bench.router_bench.report import report, sample_line, soak_report
from e2e.bench.router_bench.soak import SoakPlan, soak, soak_json

QUICK: Final[Mapping[str, Any]] = {
    "streams": (64, 512),
    "paces": (wire.STEP,),
    "repeat": 1,
    "seconds": 4.0,
    "memory": False,
}
WIDTH: Final = 110
"""Of tables that go to a file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print tables, write figures where asked to.

    Status 1 when a long run fails or, with --check, a goal is missed; 130 when interrupted.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = _options(arguments)
    _allow_many_files()
    try:
        return _soak(options) if options.soak else _compare(options)
    except KeyboardInterrupt:
        return 130


def _compare(options: argparse.Namespace) -> int:
    """Measure the routers beside each other."""
    plan = _plan(options)
    outcomes = _measure(plan, _chosen(options))
    console = _console()
    for part in report(outcomes, plan.rate):
        console.print(part)
    _write(options.json, as_json(outcomes, plan))
    figures = Figures(outcomes)
    missed = [goal for goal in judged(figures.rows(), figures.held()) if not goal.met]
    return 1 if options.check and missed else 0


def _soak(options: argparse.Namespace) -> int:
    """Hold many streams for long; 1 when anything grew or was lost."""
    given = {"streams": options.streams and options.streams[0]}
    given |= {name: getattr(options, name) for name in ("rate", "seconds")}
    plan = SoakPlan(**{name: value for name, value in given.items() if value is not None})
    errors = Console(stderr=True)
    verdict, samples = soak(
        contestants(options.checkout)[OURS_2],
        plan,
        lambda line: errors.print(sample_line(line), highlight=False, soft_wrap=True),
    )
    console = _console()
    for part in soak_report(plan, verdict):
        console.print(part)
    _write(options.json, soak_json(verdict, samples))
    return 0 if verdict.passed else 1


def _measure(plan: Plan, chosen: Mapping[str, Contestant]) -> list[Outcome]:
    """Run all measurements, telling of each."""
    cells = plan.cells(list(chosen))
    outcomes = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(cells))
        for number, cell in enumerate(cells, 1):
            progress.update(task, description=str(cell))
            outcome = run(cell, chosen[cell.contestant], plan)
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
    return {
        name: one
        for name, one in contestants(options.checkout, options.beside).items()
        if name == DIRECT or not options.only or name in options.only
    }


def _plan(options: argparse.Namespace) -> Plan:
    names = ("streams", "paces", "repeat", "seconds", "rate")
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    return Plan(**{**(QUICK if options.quick else {}), **given})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [name for name in contestants(beside=ROOT) if name != DIRECT]
    parser = argparse.ArgumentParser(
        prog="e2e/bench/router",
        description="Measures what a streamed event costs on its way through our router and "
        "through others, in one run with the same engine and client.",
    )
    add = parser.add_argument
    add("--streams", type=_positive, nargs="+", metavar="N", help="open streams")
    add("--only", action="append", choices=names, metavar="ROUTER",
        help=f"only this router; may be given several times: {', '.join(names)}")  # fmt: skip
    add("--repeat", type=_positive, metavar="N", help="runs of each measurement")
    add("--paces", nargs="+", choices=(wire.STEP, wire.SPREAD), help="how events come: all "
        "streams at once or each at its own time")  # fmt: skip
    add("--seconds", type=float, metavar="S", help="length of a measurement")
    add("--rate", type=float, metavar="N", help="events per second, all streams together")
    add("--quick", action="store_true", help="64 and 512 streams, once, in steps")
    add("--soak", action="store_true", help="hold 4,000 streams on our router, two hops, for 10 "
        "minutes, and fail on growth of memory or open files and on any wrong or lost event; "
        "--streams and --seconds change that")  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--check", action="store_true", help="fail when a goal is missed")
    add("--checkout", type=Path, default=ROOT, metavar="DIR",
        help="ours is the router of this checkout of the repository")  # fmt: skip
    add("--beside", type=Path, metavar="DIR",
        help="measure the router of another checkout as well")  # fmt: skip
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def _write(path: Path | None, figures: object) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def _allow_many_files() -> None:
    """Every process here inherits it: a socket for each stream and side."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
