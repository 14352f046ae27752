"""How fast the simulator is: `python -m e2e.bench.simulator_bench [--json FILE]`."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from cascade_cli.scenario import Scenario, make_workload, run_scenario
from cascade_simulator.policy import Transport
from e2e.traces.trace import TRACES, read_trace

BUDGET_SECONDS: Final = 10.0
"""CPU seconds that one run may take."""
POLICIES: Final = ("round-robin", "price", "cascade+handover")


def main() -> int:
    """Time one run of each policy on each trace; status 1 when one is over the budget."""
    options = _options()
    seconds = {
        trace: {policy: run_seconds(trace, policy, options.requests) for policy in POLICIES}
        for trace in sorted(TRACES)
    }
    table = Table("trace", *POLICIES)
    for trace, by_policy in seconds.items():
        table.add_row(trace, *(f"{taken:.2f} s" for taken in by_policy.values()))
    Console().print(f"CPU time of {options.requests} requests on 16 instances, load 0.7", table)
    if options.json:
        options.json.write_text(json.dumps({"cpuSeconds": seconds}, indent=1) + "\n")
    slowest = max(taken for by_policy in seconds.values() for taken in by_policy.values())
    if slowest > BUDGET_SECONDS:
        print(f"over budget: {slowest:.1f} s, {BUDGET_SECONDS:g} s are allowed", file=sys.stderr)
        return 1
    return 0


def run_seconds(trace: str, policy: str, requests: int) -> float:
    """CPU seconds of one run, reading the trace and making the workload left out."""
    scenario = Scenario(policy=policy, requests=requests, transport=Transport.COPY)
    workload = make_workload(scenario, read_trace(trace))
    began = time.process_time()
    run_scenario(scenario, workload)
    return time.process_time() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="e2e/bench/simulator", description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
