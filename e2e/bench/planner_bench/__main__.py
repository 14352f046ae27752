"""Prints what planning takes and brings: `python -m e2e.bench.planner_bench [--json FILE]`."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table

from e2e.bench.planner_bench.budgets import budgets, exceeded
from e2e.bench.planner_bench.measurement import LOAD, MAX_LENGTH, PROFILE, Measurement, measure

TRACES = ("azure", "mooncake")
INSTANCES = (1, 4, 16, 64, 256, 1024, 4096)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table, write the figures where asked to; 1 when a budget is exceeded."""
    options = _options(arguments)
    cells = [(trace, count) for count in options.instances for trace in TRACES]
    measured = [
        measure(trace, count, options.repeat, 1024 if options.full else 256, time.perf_counter)
        for trace, count in track(cells, "Planning", console=Console(stderr=True), transient=True)
    ]
    Console(stderr=options.json == "-").print(_table(measured))
    slowest = _slowest(measured)
    allowed = budgets()
    over = exceeded(slowest, allowed)
    if options.json:
        _write(options.json, _figures(measured, slowest, allowed, options.repeat))
    for line in over:
        print(line, file=sys.stderr)
    return 1 if over else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/planner",
        description="Measure the time from length histograms to a plan, and the plan's quality.",
    )
    parser.add_argument("--repeat", type=_positive, default=21, metavar="N", help="plans per cell")
    parser.add_argument(
        "--instances", type=_positive, nargs="+", default=INSTANCES, metavar="N", help="pool sizes"
    )
    parser.add_argument(
        "--full", action="store_true", help="compare with the exact search up to 1024 instances"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for stdout")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _table(measured: Sequence[Measurement]) -> Table:
    table = Table(
        title=f"Histograms to plan: {PROFILE}, {MAX_LENGTH} tokens, load {LOAD:g}",
        caption="bound: how much cheaper the best plan may be at most, as proven by the search; "
        "price: how much dearer than the best the search by price is",
        box=box.SIMPLE,
        padding=0,
        collapse_padding=True,
    )
    for heading in ("instances", "trace", "median ms", "p95 ms", "stages", "gain %"):
        table.add_column(heading, justify="left" if heading == "trace" else "right")
    table.add_column("solver", no_wrap=True)
    for heading in ("bound %", "price %"):
        table.add_column(heading, justify="right")
    for one in measured:
        table.add_row(
            str(one.instances),
            one.trace,
            f"{one.median_ms:.1f}",
            f"{one.p95_ms:.1f}",
            str(one.stages),
            f"{one.gain_percent:.1f}",
            one.solver,
            f"{one.gap_bound_percent:.3f}",
            "" if one.price_gap_percent is None else f"{abs(one.price_gap_percent):.3f}",
        )
    return table


def _slowest(measured: Sequence[Measurement]) -> dict[int, float]:
    """The median of the slower trace, by instance count."""
    counts = dict.fromkeys(one.instances for one in measured)
    return {
        count: max(one.median_ms for one in measured if one.instances == count) for count in counts
    }


def _figures(
    measured: Sequence[Measurement],
    slowest: dict[int, float],
    allowed: dict[int, float],
    repeat: int,
) -> dict[str, object]:
    return {
        "medianMs": {str(count): round(ms, 3) for count, ms in slowest.items()},
        "budgetMs": {str(count): ms for count, ms in allowed.items()},
        "profile": PROFILE,
        "maxLength": MAX_LENGTH,
        "load": LOAD,
        "repeat": repeat,
        "rows": [asdict(one) for one in measured],
    }


def _write(path: str, figures: dict[str, object]) -> None:
    text = json.dumps(figures, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
