"""Runs the steps one after the other, each whatever became of those before, and sums them up."""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.runner import totals
from tests.runner.steps import STEPS, Step, UnknownStep, choose, left_out
from tests.runner.summary import Outcome, closing_lines, exit_status, judge

ROOT = Path(__file__).parents[2]


def main() -> int:
    options = _parse()
    try:
        steps = choose(options.steps, options.quick, options.expression)
    except UnknownStep as error:
        print(f"tests/run: {error}", file=sys.stderr)
        return 2
    outcomes = []
    interrupted = False
    with tempfile.TemporaryDirectory(prefix="cascade-tests-") as folder:
        for step in steps:
            try:
                outcomes.append(_run(step, options.expression, Path(folder)))
            except KeyboardInterrupt:
                interrupted = True
                break
    missing = list(left_out(options.steps, options.quick))
    if interrupted:
        missing.append("what was still to come, by an interruption")
    print("\n== summary", *closing_lines(outcomes, missing), sep="\n", flush=True)
    return 130 if interrupted else exit_status(outcomes)


def _parse() -> argparse.Namespace:
    listed = "\n".join(f"  {step.name:<12}{step.what}" for step in STEPS)
    parser = argparse.ArgumentParser(
        prog="tests/run",
        description="Runs every check of the project.",
        epilog=f"steps, in their order:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("steps", nargs="*", metavar="STEP", help="run these steps only")
    parser.add_argument(
        "--quick", action="store_true", help="leave out what needs a whole cluster or real engines"
    )
    parser.add_argument(
        "-k",
        dest="expression",
        metavar="EXPR",
        help="run only the tests that match, as pytest's -k",
    )
    return parser.parse_args()


def _run(step: Step, expression: str | None, folder: Path) -> Outcome:
    """Runs one step in the foreground."""
    print(f"\n== {step.name}: {step.what}", flush=True)
    report = folder / f"{step.name}.xml"
    command = list(step.command)
    if step.tests:
        command.append(f"--junitxml={report}")
        if expression is not None:
            command += ["-k", expression]
    started = time.monotonic()
    status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=False).returncode
    seconds = time.monotonic() - started
    return judge(step.name, status, seconds, totals.read(report), expression is not None)


if __name__ == "__main__":
    sys.exit(main())
