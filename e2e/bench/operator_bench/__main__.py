"""`e2e/bench/operator`: passes, memory, requests and moves of the operator with many instances."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table

from e2e.bench.goal import goals_table
from e2e.bench.operator_bench.experiments import Experiment, TookTooLong, run
from e2e.bench.operator_bench.figures import Outcome
from e2e.bench.operator_bench.goals import FLEET, LARGE, SETTLED, figures, judged
from e2e.bench.operator_bench.process import OperatorEnded
from e2e.cluster import ClusterError, Stopwatch

EXPERIMENTS: Final = (LARGE, FLEET, SETTLED)
SETTLED_SERVICES: Final = 20
SETTLED_INSTANCES: Final = 4
DEFAULT_INTERVAL: Final = 60
"""Seconds between two plans, as the CRD has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments, print a table, write the figures where asked to; 1 when a goal is
    missed, 2 when an experiment did not come to its end."""
    options = _options(arguments)
    console = Console(stderr=options.json == "-", soft_wrap=True)
    say = Stopwatch()
    try:
        outcomes = [run(one, say) for one in _experiments(options)]
    except (ClusterError, TookTooLong, OperatorEnded) as error:
        print(f"e2e/bench/operator: {error}", file=sys.stderr)
        return 2
    found = figures(outcomes)
    goals = judged(found)
    console.print(_table(outcomes))
    console.print(goals_table(goals))
    if options.json:
        _write(options.json, found)
    return 0 if all(goal.met for goal in goals) else 1


def _experiments(options: argparse.Namespace) -> list[Experiment]:
    """Those asked for, in the order of EXPERIMENTS."""
    base = Experiment(
        name=LARGE,
        services=1,
        instances=options.instances,
        rest_seconds=options.rest_seconds,
        moves=options.instances * options.moved_percent // 100,
        interval_seconds=5,
        resync_seconds=options.resync_seconds,
        controller_qps=options.controller_qps,
    )
    each = options.fleet_instances
    fleet = replace(
        base,
        name=FLEET,
        services=options.services,
        instances=each,
        moves=each * options.moved_percent // 100,
        interval_seconds=DEFAULT_INTERVAL,
    )
    settled = replace(
        fleet,
        name=SETTLED,
        services=min(SETTLED_SERVICES, options.services),
        instances=SETTLED_INSTANCES,
        moves=0,
        rest_seconds=options.settled_seconds,
    )
    return [one for one in (base, fleet, settled) if one.name in options.only]


def _table(outcomes: Sequence[Outcome]) -> Table:
    table = Table(
        title="The operator at scale",
        caption="requests/min: to the API server, without watches and Lease; written: writes by "
        "anyone, controllers included, to objects of the services",
        box=box.SIMPLE_HEAD,
    )
    for heading in ("", "phase"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "s", "CPU s", "passes", "p50 ms", "p99 ms", "requests/min", "writes", "written", "moved",
        "RSS MB",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for one in outcomes:
        for number, phase in enumerate(one.phases):
            table.add_row(
                f"{one.name} {one.services} x {one.instances:,}" if not number else "",
                phase.name,
                f"{phase.seconds:.0f}",
                f"{phase.cpu_seconds:.1f}",
                f"{phase.passes:,}",
                f"{phase.pass_p50_ms:.0f}",
                f"{phase.pass_p99_ms:.0f}",
                f"{phase.all_requests_per_minute:,.0f}",
                f"{phase.writes:,}",
                f"{phase.written:,}",
                f"{phase.moved:,}",
                f"{phase.rss_mb:.0f}",
            )
    return table


def _write(path: str, found: dict[str, Any]) -> None:
    text = json.dumps(found, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text, encoding="utf-8")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/operator",
        description="Run the operator on a real API server with real controllers and pods that "
        "are bound and made ready without a kubelet: one large service, a fleet of services, and "
        "services that are settled. Takes about ten minutes.",
    )
    parser.add_argument(
        "--only", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS, help="which experiments"
    )
    parser.add_argument(
        "--instances", type=_number(8), default=1000, metavar="N", help="of the large service"
    )
    parser.add_argument("--services", type=_number(1), default=50, metavar="N", help="of the fleet")
    parser.add_argument(
        "--fleet-instances", type=_number(4), default=20, metavar="N", help="of each of them"
    )
    parser.add_argument(
        "--moved-percent", type=_number(1), default=20, metavar="P",
        help="instances that the second plan wants in another stage",
    )  # fmt: skip
    parser.add_argument(
        "--rest-seconds", type=_number(1), default=30, metavar="S", help="between the two plans"
    )
    parser.add_argument(
        "--settled-seconds", type=_number(1), default=90, metavar="S",
        help="for which settled services are watched",
    )  # fmt: skip
    parser.add_argument(
        "--resync-seconds", type=_number(1), default=30, metavar="S",
        help="after which the operator looks without being woken",
    )  # fmt: skip
    parser.add_argument(
        "--controller-qps", type=_number(1), metavar="N",
        help="requests per second of each controller of Kubernetes, instead of its default of 20",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", help="write the figures there, - for stdout")
    return parser.parse_args(arguments)


def _number(least: int) -> Any:
    def read(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is below {least}")
        return int(text)

    return read


if __name__ == "__main__":
    sys.exit(main())
