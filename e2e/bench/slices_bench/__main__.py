"""Prints the comparison as Markdown: `python -m e2e.bench.slices_bench [--json FILE]`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track

from e2e.bench.slices_bench.experiments import cells, estimator_rows, run
from e2e.bench.slices_bench.interval import MAX_SEEDS
from e2e.bench.slices_bench.report import markdown


def main() -> None:
    """Run everything, print the section, write the rows where asked to."""
    options = _options()
    rows = estimator_rows()
    for cell in track(cells(), "Slices", console=Console(stderr=True), transient=True):
        rows += run(cell, options.requests, options.seeds)
    print(markdown(rows))
    if options.json:
        data = {
            "requestsPerInstance": options.requests,
            "seeds": options.seeds,
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/bench/slices",
        description="Compare SLS, ILS and the steps to SCLS on simulated static batching engines.",
    )
    parser.add_argument(
        "--seeds", type=int, default=5, choices=range(1, MAX_SEEDS + 1), help="runs of each cell"
    )
    parser.add_argument(
        "--requests", type=int, default=750, metavar="N", help="requests per instance and run"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rows there as well")
    return parser.parse_args()


if __name__ == "__main__":
    main()
