"""`e2e/bench/overload`: the same overload with routers, with a short queue, and without routers."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from e2e.bench.overload_bench.drive import Seen, overload
from e2e.bench.overload_bench.figures import Figures, claims, figures_of
from e2e.bench.overload_bench.requests import ENGINE, Request, Shape, requests
from e2e.local_service.service import ServiceFailed, ServicePlan, local_service

WAYS: Final[Mapping[str, str]] = {
    "ours": "routers",
    "bounded": "queue of 32",
    "alone": "no routers",
}
QUEUE: Final = "32"
ROWS: Final[Mapping[str, Callable[[Figures], str]]] = {
    "requests": lambda one: f"{one.requests:,}",
    "lost / wrong": lambda one: f"{one.lost} / {one.wrong}",
    "preemptions": lambda one: f"{one.preemptions:,}",
    "time to first token, p50": lambda one: f"{one.wait_p50:.1f} s",
    "p99": lambda one: f"{one.wait_p99:.1f} s",
    "p99 of the longest tenth": lambda one: f"{one.longest_p99:.1f} s",
    "wait once let in, p99": lambda one: f"{one.queue_p99:.1f} s",
    "end to end, mean": lambda one: f"{one.whole_mean:.1f} s",
    "answers 429": lambda one: f"{one.turned_away:,}",
    "their Retry-After, mean": lambda one: f"{one.told_mean:.1f} s",
    "tries of those, mean": lambda one: f"{one.tries_mean:.1f}",
}
MAX_LENGTH: Final = 16384


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all ways, print a table, write the figures where asked to; 1 when a claim fails."""
    options = _options(arguments)
    console = Console(stderr=options.json == "-", soft_wrap=True)
    shape = Shape(options.factor, options.seconds, options.instances, seed=options.seed)
    offered = requests(shape)
    console.print(
        f"{len(offered)} requests in {shape.seconds:g} s, {shape.factor:g} times what "
        f"{shape.instances} engines with memory for {ENGINE['kvCapacityTokens']:,} tokens can serve"
    )
    figures: dict[str, Figures] = {}
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            for way in WAYS:
                figures[way] = figures_of(_run(way, shape.instances, offered, progress))
    except ServiceFailed as error:
        print(f"e2e/bench/overload: {error}", file=sys.stderr)
        return 2
    console.print(_table(figures))
    judged = claims(figures)
    for text, holds in judged:
        console.print(f"{'holds ' if holds else 'FAILS '} {text}")
    if options.json:
        ways = {way: asdict(one) for way, one in figures.items()}
        held = [{"claim": text, "holds": holds} for text, holds in judged]
        text = json.dumps({"ways": ways, "claims": held}, indent=1)
        print(text) if options.json == "-" else Path(options.json).write_text(text + "\n")
    return 0 if all(holds for _, holds in judged) else 1


def _run(way: str, instances: int, offered: Sequence[Request], progress: Progress) -> Seen:
    environment = {"CASCADE_MAX_WAITING": QUEUE} if way == "bounded" else {}
    plan = ServicePlan(
        stages=[0] * instances,
        max_length=MAX_LENGTH,
        coefficients=ENGINE,
        router_environment={"CASCADE_BID_DEADLINE_MS": "20", **environment},
    )
    task = progress.add_task(WAYS[way], total=len(offered))
    with local_service(plan) as service:
        engines = [engine.url for engine in service.engines]
        urls = engines if way == "alone" else service.urls
        return asyncio.run(
            overload(urls, engines, plan.model, offered, lambda: progress.advance(task))
        )


def _table(figures: Mapping[str, Figures]) -> Table:
    table = Table(title="An overload", box=box.SIMPLE_HEAD)
    table.add_column("")
    for way in figures:
        table.add_column(f"{way}: {WAYS[way]}", justify="right")
    for what, show in ROWS.items():
        table.add_row(what, *map(show, figures.values()))
    return table


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/overload",
        description="Send engine simulators more than their memory can serve: through real "
        "routers, through routers with a short queue, and without routers.",
    )
    parser.add_argument("--factor", type=float, default=Shape.factor, help="times the capacity")
    parser.add_argument("--seconds", type=float, default=Shape.seconds, help="of arrivals")
    parser.add_argument("--instances", type=int, default=Shape.instances, metavar="N")
    parser.add_argument("--seed", type=int, default=Shape.seed)
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for stdout")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
