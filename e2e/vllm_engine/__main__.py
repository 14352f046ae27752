"""`e2e/vllm`: our routers before real engines, judged."""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from e2e.bench.rivals import NotInstalled, NotServing
from e2e.continuity_suite.probed_prompts import ProbedPrompts
from e2e.local_service.service import ServiceFailed
from e2e.vllm_engine import checks
from e2e.vllm_engine.checks import FULL, SHORT, Outcome, Size
from e2e.vllm_engine.engine import VllmEngine
from e2e.vllm_engine.installation import installed, version
from e2e.vllm_engine.memory import FEWEST, MEMORY_GB, SPARE_GB, available_gb, engines_for
from e2e.vllm_engine.service import MODEL, Real, real_service


class NoRoom(Exception):
    """There is not enough memory; the message says how much is needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks; 1 when one failed, 2 when nothing could be checked."""
    options = _options(arguments)
    console = Console(highlight=False, soft_wrap=True)
    # Engines are in sessions of their own: whoever ends this process means them, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcomes = asyncio.run(_run(options, console))
    except (NoRoom, NotInstalled, NotServing, ServiceFailed) as error:
        print(f"e2e/vllm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for name, outcome in outcomes.items():
        console.print(f"{'passed' if outcome.passed else 'FAILED'}  {name}")
    if options.json:
        figures = {name: {"passed": one.passed, **one.figures} for name, one in outcomes.items()}
        document = json.dumps({"vllm": version(), "checks": figures}, indent=1)
        Path(options.json).write_text(document + "\n", encoding="utf-8")
    return 0 if all(outcome.passed for outcome in outcomes.values()) else 1


async def _run(options: argparse.Namespace, console: Console) -> dict[str, Outcome]:
    room = engines_for(available_gb())
    if room < FEWEST:
        need = FEWEST * MEMORY_GB + SPARE_GB
        raise NoRoom(f"{FEWEST} engines need {need:g} GB of free memory; end what uses it")
    # One more than two is asked without a router; else one of the two is.
    apart = room > FEWEST and not options.short
    kind = VllmEngine(installed())
    began = time.monotonic()
    console.print(
        f"vLLM {version()}: {FEWEST + apart} engines, 6 stages; they take a minute or two"
    )
    async with real_service(kind, FEWEST, apart=apart) as real:
        console.print(f"serving after {time.monotonic() - began:.0f} s")
        outcomes = await _checks(real, options, console)
    console.print(f"done in {time.monotonic() - began:.0f} s")
    return outcomes


async def _checks(real: Real, options: argparse.Namespace, console: Console) -> dict[str, Outcome]:
    size = _size(options)
    prompts = ProbedPrompts(real.alone, MODEL, size.pool, size.searched)
    outcomes: dict[str, Outcome] = {}
    for name in checks.chosen(options.check):
        console.print(f"\n[bold]{name}[/]")
        match name:
            case "contract":
                outcomes[name] = await checks.check_contract(real, options.update, console)
            case "handovers":
                outcomes[name] = await checks.check_handovers(real, prompts, size, console)
            case "gap":
                outcomes[name] = await checks.measure_gap(real, size.gaps, console)
            case "abort":
                outcomes[name] = await checks.check_abort(real, prompts, size, console)
            case _:
                outcomes[name] = await checks.check_continuity(real, prompts, size, console)
    return outcomes


def _size(options: argparse.Namespace) -> Size:
    size = SHORT if options.short else FULL
    return replace(size, only=options.only or size.only)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/vllm",
        description="Starts vLLM on the CPU with a tiny model, two engines behind six routers and, "
        "where memory allows, one without, and checks that hand-overs change nothing. The first "
        "run installs some gigabytes. Exit status 1: a check failed; 2: nothing could be checked.",
    )
    parser.add_argument(
        "--check",
        action="append",
        choices=checks.NAMES,
        help="only this one; can be repeated. gap is measured only if named",
    )
    parser.add_argument("--short", action="store_true", help="two engines and fewer requests")
    parser.add_argument("--only", metavar="PATTERN", help="cases of the suite that match this")
    parser.add_argument(
        "--update", action="store_true", help="take the differences to the simulator for known"
    )
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
