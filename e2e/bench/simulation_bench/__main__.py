"""Runs the matrix: `python -m e2e.bench.simulation_bench [--quick] [--only NAME]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from cascade_cli.parallel import default_jobs
from e2e.bench.simulation_bench.cache import Cache, Figures, default_folder
from e2e.bench.simulation_bench.experiment import Cell, Experiment
from e2e.bench.simulation_bench.experiments import EXPERIMENTS
from e2e.bench.simulation_bench.page import render
from e2e.bench.simulation_bench.results import Results
from e2e.bench.simulation_bench.runner import code_digest, run
from e2e.bench.simulation_bench.tables import section
from e2e.bench.slices_bench.experiments import all_rows
from e2e.bench.slices_bench.report import markdown as slices_markdown

RESULTS: Final = Path(__file__).parents[1] / "RESULTS.md"
SLICES: Final = "slices"
INTERRUPTED: Final = 130


def main() -> int:
    """The whole matrix writes RESULTS.md; a part of it, or a quick run, prints its tables."""
    options = _options()
    if options.list:
        _list()
        return 0
    chosen = _chosen(options)
    try:
        answers = run(chosen, Cache(options.cache, code_digest()), options.jobs)
        slices = _slices(options)
    except KeyboardInterrupt:
        print("\nInterrupted: the next run goes on from here.", file=sys.stderr)
        return INTERRUPTED
    results = Results({experiment.name: experiment for experiment in chosen}, answers)
    if options.json:
        found = json.dumps(_as_json(chosen, answers), indent=1)
        options.json.write_text(found + "\n", encoding="utf-8")
    output = options.output or (None if options.quick or options.only else RESULTS)
    if output is not None:
        output.write_text(render(results, slices), encoding="utf-8")
        print(f"Wrote {output}", file=sys.stderr)
        return 0
    tables = [section(experiment, results) for experiment in chosen]
    print("\n\n".join([*tables, *([slices] if slices else [])]))
    return 0


def _options() -> argparse.Namespace:
    names = [*(experiment.name for experiment in EXPERIMENTS), SLICES]
    parser = argparse.ArgumentParser(
        prog="e2e/bench/simulation",
        description="Compare policies in the simulator. Without options: everything but a few "
        "side questions, in about 50 minutes on two idle cores, and e2e/bench/RESULTS.md is "
        "written. Finished cells are kept, so an interrupted run goes on where it was.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, a tenth of the requests: about 5 minutes"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=names,
        metavar="NAME",
        help="this experiment alone (may be repeated); prints its tables",
    )
    parser.add_argument("--all", action="store_true", help="the side questions as well")
    parser.add_argument("--list", action="store_true", help="print the experiments and end")
    parser.add_argument(
        "--jobs", type=int, default=default_jobs(), metavar="N", help="processes at once"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_folder(),
        metavar="DIR",
        help="where finished cells are kept",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the page there, whatever was run"
    )
    return parser.parse_args()


def _chosen(options: argparse.Namespace) -> list[Experiment]:
    wanted = options.only or [one.name for one in EXPERIMENTS if options.all or not one.extra]
    chosen = [one for one in EXPERIMENTS if one.name in wanted]
    return [one.quick() for one in chosen] if options.quick else chosen


def _list() -> None:
    for experiment in EXPERIMENTS:
        cells = list(experiment.cells())
        requests = sum(cell.scenario.requests for cell in cells)
        print(
            f"{experiment.name:14} {len(cells):5} cells {requests / 1e6:6.2f} M requests  "
            f"{experiment.title}{' (with --all)' if experiment.extra else ''}"
        )
    print(f"{SLICES:14} static batching: SLS, ILS and SCLS")


def _slices(options: argparse.Namespace) -> str | None:
    if options.only and SLICES not in options.only:
        return None
    return slices_markdown(all_rows(requests=75, seeds=2) if options.quick else all_rows())


def _as_json(chosen: Sequence[Experiment], answers: dict[Cell, Figures]) -> dict[str, Any]:
    return {
        "experiments": {
            experiment.name: [
                {"cell": asdict(cell), "figures": answers[cell]}
                for cell in dict.fromkeys(experiment.cells())
            ]
            for experiment in chosen
        }
    }


if __name__ == "__main__":
    sys.exit(main())
