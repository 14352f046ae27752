"""`e2e/bench/chat`: the same conversations by price with prefixes, without, and by stickiness."""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from rich import box
from rich.console import Console
from rich.table import Table

from e2e.bench.chat_bench.conversations import Conversation, Shape, conversations
from e2e.bench.chat_bench.drive import Talk, talk
from e2e.bench.chat_bench.figures import Figures, claims, figures_of, ideal_claims, to_json
from e2e.bench.chat_bench.simulated import PROFILE, Simulated, simulated
from e2e.local_service.service import LocalService, ServiceFailed, ServicePlan, local_service

WAYS = ("ours", "blind", "sticky")
MEANING = {
    "ours": "by price, with prefixes",
    "blind": "by price, without prefixes",
    "sticky": "each session stays on one instance",
}
BLIND = {"CASCADE_MAX_PREFIX_TOKENS": "0"}
MAX_LENGTH = 16384
SIMULATED_INSTANCES = 16
RATES = (50.0, 90.0, 130.0)
"""Simulated requests per second: calm, busy, and near what prices without prefixes can bear."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all ways, print a table, write the figures where asked to; 1 when a claim fails."""
    options = _options(arguments)
    console = Console(stderr=options.json == "-")
    shape = Shape(options.seconds, options.rate, seed=options.seed)
    said = conversations(shape)
    turns = sum(len(one.turns) for one in said)
    console.print(
        f"{len(said)} conversations, {turns} turns, {options.instances} instances, each way for "
        f"about {options.seconds:.0f} s"
    )
    figures: dict[str, Figures] = {}
    for way in WAYS:
        with console.status(f"{way}: {MEANING[way]}"):
            try:
                figures[way] = figures_of(_run(way, options.instances, said))
            except ServiceFailed as error:
                print(f"e2e/bench/chat: {error}", file=sys.stderr)
                return 2
    console.print(_table(figures))
    with console.status("the same question to the simulator"):
        ideal = list(simulated(SIMULATED_INSTANCES, RATES, options.requests, options.seed))
    console.print(_simulated_table(ideal))
    judged = [*claims(figures), *ideal_claims(ideal)]
    for text, holds in judged:
        console.print(f"{'holds ' if holds else 'FAILS '} {text}")
    if options.json == "-":
        print(json.dumps(to_json(figures, ideal), indent=1))
    elif options.json:
        Path(options.json).write_text(json.dumps(to_json(figures, ideal), indent=1) + "\n")
    return 0 if all(holds for _, holds in judged) else 1


def _run(way: str, instances: int, said: Sequence[Conversation]) -> Talk:
    with ExitStack() as stack:
        if way == "sticky":
            # A service of its own for each instance: nobody else can be chosen.
            services = [stack.enter_context(_service([0], {})) for _ in range(instances)]
        else:
            environment = BLIND if way == "blind" else {}
            services = [stack.enter_context(_service([0] * instances, environment))]
        urls = [url for service in services for url in service.urls]
        engines = [engine.url for service in services for engine in service.engines]
        model = services[0].plan.model
        return asyncio.run(talk(urls, engines, said, model, _chooser(way, instances)))


@contextmanager
def _service(stages: Sequence[int], environment: Mapping[str, str]) -> Iterator[LocalService]:
    patient = {"CASCADE_BID_DEADLINE_MS": "20", **environment}
    plan = ServicePlan(stages=stages, max_length=MAX_LENGTH, router_environment=patient)
    with local_service(plan) as service:
        yield service


def _chooser(way: str, instances: int) -> Callable[[int, int], int]:
    """Sticky clients keep the instance of their first turn; others go to any router, as a Service
    of Kubernetes spreads them."""

    def where(session: int, turn: int) -> int:
        return Random(f"{session}/{0 if way == 'sticky' else turn}").randrange(instances)

    return where


def _table(figures: Mapping[str, Figures]) -> Table:
    table = Table(title="Conversations of several turns", box=box.SIMPLE_HEAD)
    table.add_column("way", min_width=44)
    for heading in ("requests", "prefill computed", "E2E mean", "TTFT mean", "TTFT p99 (ms)"):
        table.add_column(heading, justify="right")
    for way, one in figures.items():
        table.add_row(
            f"{way}: {MEANING[way]}",
            str(one.requests),
            f"{one.computed_share:.0%}",
            f"{one.mean_e2e:,.0f}",
            f"{one.mean_ttft:,.0f}",
            f"{one.p99_ttft:,.0f}",
        )
    return table


def _simulated_table(ideal: Sequence[Simulated]) -> Table:
    table = Table(
        title=f"Simulated: {SIMULATED_INSTANCES} instances, {PROFILE}", box=box.SIMPLE_HEAD
    )
    for heading in ("requests/s", "way", "prefill computed", "E2E mean", "TTFT p99 (ms)"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for one in ideal:
        table.add_row(
            f"{one.per_second:g}",
            one.way,
            f"{one.computed_share:.1%}",
            f"{one.mean_e2e:,.0f}",
            f"{one.p99_ttft:,.0f}",
        )
    return table


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/chat",
        description="Hold the same conversations with engine simulators behind real routers: by "
        "price with the prefix index, without it, and with sticky sessions.",
    )
    parser.add_argument("--instances", type=int, default=6, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, help="in which sessions begin")
    parser.add_argument("--rate", type=float, default=1.6, help="sessions per second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--requests", type=int, default=6000, metavar="N", help="of each simulated run"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for stdout")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
