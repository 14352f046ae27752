"""`e2e/continuity`: does this router leave streams whole?"""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from rich.console import Console

from e2e.bench.rivals import NotInstalled, NotServing
from e2e.continuity_suite.engines import Engines
from e2e.continuity_suite.judge import Result, Target, Verdict
from e2e.continuity_suite.relay import FAULTS
from e2e.continuity_suite.report import LiveTable, to_json, totals
from e2e.continuity_suite.suite import LONGEST, NotAnswering, model_of, verdicts
from e2e.continuity_suite.targets import NAMES, Wanted, started
from e2e.continuity_suite.wire import Client
from e2e.local_service.service import ServiceFailed

KEY_VARIABLE: Final = "OPENAI_API_KEY"
KILL: Final = "kill-engine"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; 1 when a case failed, 2 when there is nothing to judge."""
    options = _options(arguments)
    console = Console(stderr=options.json == "-", highlight=False)
    try:
        results, target = asyncio.run(_run(options, console))
    except (NotAnswering, NotInstalled, NotServing, ServiceFailed) as error:
        print(f"e2e/continuity: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if not results:
        print(f"e2e/continuity: no case matches {options.only!r}", file=sys.stderr)
        return 2
    console.print(totals(results))
    reference = None if target.reference is None else target.reference.url
    document = to_json(results, target.client.url, reference)
    if options.json == "-":
        print(document)
    elif options.json:
        Path(options.json).write_text(document + "\n", encoding="utf-8")
    return 1 if any(result.verdict is Verdict.FAILED for result in results) else 0


async def _run(options: argparse.Namespace, console: Console) -> tuple[list[Result], Target]:
    results: list[Result] = []
    async with _target(options) as target:
        known = target.reference or target.client
        target.model, max_length = await model_of(known, options.model)
        console.print(
            f"{target.client.url} is judged by what "
            + (f"{target.reference.url} answers" if target.reference else "it answers unstreamed")
        )
        table = LiveTable(console)
        with console.status("asking"):
            async for result in verdicts(target, max_length, options.only, options.longest):
                results.append(result)
                table.add(result)
    return results, target


@asynccontextmanager
async def _target(options: argparse.Namespace) -> AsyncIterator[Target]:
    if options.against is not None:
        kill = options.disrupt == KILL
        async with started(Wanted(options.against, options.fault, kill)) as target:
            yield target
        return
    key = os.environ.get(KEY_VARIABLE)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    engines = await Engines.at(options.engine) if options.engine else None
    reference = Client(options.reference.rstrip("/"), headers) if options.reference else None
    yield Target(Client(options.url.rstrip("/"), headers), "", reference, engines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="e2e/continuity",
        description="Judges whether a router leaves the streams of an OpenAI-compatible engine "
        "whole, by comparison with the engine alone. Exit status 1: a case failed; 2: nothing "
        f"could be judged. ${KEY_VARIABLE} is sent as a bearer token to --url and --reference.",
    )
    judged = parser.add_mutually_exclusive_group(required=True)
    judged.add_argument("--url", help="the router to judge, without /v1")
    judged.add_argument(
        "--against", choices=NAMES, help="start this one here, with engine simulators"
    )
    parser.add_argument(
        "--reference", help="the same engine without a router (default: --url, unstreamed)"
    )
    parser.add_argument("--model", help="default: the first one that is listed")
    parser.add_argument(
        "--engine",
        action="append",
        default=[],
        help="an engine behind --url, to see it stop; with a simulator's --allow-faults, also to "
        "see it fail; can be repeated",
    )
    parser.add_argument(
        "--disrupt", choices=[KILL], help="with --against: kill an engine in mid-stream at the end"
    )
    parser.add_argument("--fault", choices=sorted(FAULTS), default="drop", help="of the relay")
    parser.add_argument("--only", type=_pattern, help="cases whose 'group: name' matches this")
    parser.add_argument("--longest", type=int, default=LONGEST, help="tokens of the longest stream")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts there (-: to stdout)")
    options = parser.parse_args(arguments)
    if options.disrupt and not options.against:
        parser.error("--disrupt needs --against: only what is started here can be killed")
    return options


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"not a regular expression: {error}") from None
    return text


if __name__ == "__main__":
    sys.exit(main())
