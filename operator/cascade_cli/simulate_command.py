"""`cascade simulate`: which policy would serve my traffic best?"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cascade_cli.errors import DONE, BadInput
from cascade_cli.parallel import in_processes
from cascade_cli.pool import Pool, pool_of
from cascade_cli.report.comparison import Row, compare
from cascade_cli.report.page import render
from cascade_cli.report.study import Run, Setup, Study
from cascade_cli.scenario import Scenario, is_length_blind, make_workload, run_scenario
from cascade_cli.simulate_options import add_arguments as add_arguments
from cascade_cli.simulate_output import as_json, print_table
from cascade_cli.trace_source import BadLines
from cascade_cli.traces import TraceRequest, opened, requests, shown
from cascade_simulator.outcome import Outcome
from cascade_simulator.workload import Workload

SETTLED: Final = 12
"""Mean end-to-end times that a run should last, so that its beginning matters little."""

_Item = tuple[Scenario, Workload]


def run(args: argparse.Namespace) -> int:
    """Simulate, print the table, write what was asked for; the exit status. Raises CommandError,
    InvalidTrace."""
    pool = pool_of(args)
    rows = _rows(args.trace, pool)
    items = _items(args, pool, rows)
    outcomes = _simulated(items, args.jobs)
    study = _study(args, pool, items, outcomes)
    comparison = compare(study)
    print_table(study, comparison)
    _warn_of_short_runs(study, comparison)
    if args.json is not None:
        _write(args.json, json.dumps(as_json(study, comparison), indent=1) + "\n", "--json")
    if args.report is not None:
        _write(args.report, render(study), "--report")
        _tell(f"the report is in {args.report}")
    return DONE


def _rows(trace: str, pool: Pool) -> list[TraceRequest]:
    """The requests of the trace that one instance can hold."""
    name, bad_lines = shown(trace), BadLines(_tell)
    with opened(trace) as raw:
        rows = list(requests(raw, name, bad_lines))
    bad_lines.finish()
    room = pool.engine.kv_capacity_tokens
    fitting = [row for row in rows if row.prompt_tokens + row.output_tokens <= room]
    if not fitting:
        raise BadInput(
            f"trace {name}: all {len(rows):,} requests are longer than the {room:,} tokens that "
            "the KV cache of one instance holds: take another profile, or more GPUs per instance"
        )
    if len(fitting) < len(rows):
        _tell(
            f"{len(rows) - len(fitting):,} requests are longer than the {room:,} tokens of the KV "
            "cache, and left out"
        )
    return fitting


def _items(args: argparse.Namespace, pool: Pool, rows: Sequence[TraceRequest]) -> list[_Item]:
    """What is run: for each load and seed one workload, the same for all policies."""
    base = Scenario(
        policy="",
        pace=args.workload,
        requests=args.requests,
        instances=pool.instances,
        engine=pool.engine,
        heterogeneity=args.heterogeneity,
        ttft_target_ms=args.ttft,
        tpot_target_ms=args.tpot,
        transport=args.transport.transport,
        bytes_per_ms=args.transport.bytes_per_ms,
        prefix_cache=args.prefix_cache,
    )
    items = []
    for load, seed in product(args.load, range(1, args.seeds + 1)):
        scenario = replace(base, load=load, seed=seed)
        try:
            workload = make_workload(scenario, rows)
        except ValueError as error:
            raise BadInput(f"trace {shown(args.trace)}: {error}") from None
        items += [(replace(scenario, policy=policy), workload) for policy in args.policies]
    return items


def _simulated(items: Sequence[_Item], jobs: int) -> list[Outcome]:
    """The outcomes in the order of the items."""
    outcomes: dict[int, Outcome] = {}
    columns = (
        TextColumn("simulating"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(items))
        for position, outcome in in_processes(_run_item, items, jobs):
            outcomes[position] = outcome
            progress.advance(task)
    return [outcomes[position] for position in range(len(items))]


def _run_item(item: _Item) -> Outcome:
    return run_scenario(*item)


def _study(
    args: argparse.Namespace, pool: Pool, items: Sequence[_Item], outcomes: Sequence[Outcome]
) -> Study:
    first = items[0][0]
    setup = Setup(
        trace=Path(args.trace).name,
        traffic=first.pace,
        instances=pool.instances,
        profile=f"{pool.engine_name} ({pool.engine_about})",
        engine=first.true_engine,
        requests=len(items[0][1].requests),
        ttft_target_ms=args.ttft,
        tpot_target_ms=args.tpot,
        transport=first.transport,
        length_blind=frozenset(filter(is_length_blind, args.policies)),
    )
    runs = [
        Run(scenario.policy, scenario.load, scenario.seed, outcome)
        for (scenario, _), outcome in zip(items, outcomes, strict=True)
    ]
    return Study(setup, tuple(runs))


def _warn_of_short_runs(study: Study, rows: Sequence[Row]) -> None:
    """Runs begin with an empty cluster: say so where that is much of what was seen."""
    for load in study.loads:
        last_ms = min(float(run.outcome.arrival_ms[-1]) for run in study.runs if run.load == load)
        e2e_ms = next(row.of_baseline.e2e_mean for row in rows if row.load == load)
        if last_ms < SETTLED * e2e_ms < math.inf:
            _tell(
                f"at load {load:g} all requests arrive within {last_ms / 1000:.0f} s and one takes "
                f"{e2e_ms / 1000:.1f} s: the cluster was emptier than it would be in the long run, "
                "raise --requests"
            )


def _write(path: Path, text: str, option: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{option} {path} cannot be written: {error.strerror or error}") from None


def _tell(line: str) -> None:
    print(f"cascade: {line}", file=sys.stderr)
