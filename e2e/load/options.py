"""The command line of the load."""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

from e2e.traces.trace import TRACES


class InvalidOption(ValueError):
    """An option has a value that cannot work; the message says what to give instead."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to replay, where, and how fast. Times in seconds."""

    url: str
    requests_per_second: float
    duration: float
    trace: str = "azure"
    model: str = ""
    """Empty: the first model that the endpoint lists."""
    max_length: int = 0
    """Longer requests are left out; 0: what the endpoint lists for the model, or no limit."""
    longest_answer: int = 0
    """Longer answers are cut to it; 0: as long as the trace has them."""
    offset: float = 0.0
    seed: int = 1
    exclude_first: float = 0.0
    warmup: int = 0
    pinned_share: float = 0.0
    """Part of the requests that only the engine that began them can finish."""
    drain_timeout: float = 120.0
    silence_timeout: float = 120.0
    tries: int = 8
    """Most times that one request is sent while the answer is 429 or 503."""


def read_options(arguments: Sequence[str]) -> tuple[Options, str]:
    """Options and output form (`ndjson` or `text`). Raises InvalidOption; exits on `--help`."""
    given = vars(_parser().parse_args(arguments))
    output: str = given.pop("output")
    options = Options(**given)
    for name in ("requests_per_second", "duration", "drain_timeout", "silence_timeout"):
        value = getattr(options, name)
        if not (value > 0 and math.isfinite(value)):
            option = name.replace("_", "-")
            raise InvalidOption(f"--{option} must be a number above 0, not {value:g}")
    for name in ("offset", "exclude_first", "warmup", "max_length", "longest_answer"):
        value = getattr(options, name)
        if not (value >= 0 and math.isfinite(value)):
            option = name.replace("_", "-")
            raise InvalidOption(f"--{option} must be a number that is not negative")
    if not 0 <= options.pinned_share <= 1:
        raise InvalidOption("--pinned-share must be from 0 to 1")
    if options.tries < 1:
        raise InvalidOption("--tries must be at least 1")
    if options.exclude_first >= options.duration:
        raise InvalidOption("--exclude-first leaves nothing to measure: make --duration longer")
    return options, output


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m e2e.load",
        description="Replays a trace at an OpenAI-style endpoint of simulated engines and compares "
        "every answer token by token.",
    )
    parser.add_argument("--url", required=True, help="http://HOST:PORT")
    parser.add_argument(
        "--trace", default="azure", help=f"{', '.join(sorted(TRACES))}, or a .csv or .jsonl file"
    )
    parser.add_argument("--model", default="", help="default: the first one that the URL lists")
    parser.add_argument(
        "--max-length", type=int, default=0, help="leave out longer requests (tokens)"
    )
    parser.add_argument(
        "--longest-answer", type=int, default=0, help="cut longer answers to it (tokens)"
    )
    parser.add_argument("--requests-per-second", type=float, required=True, help="mean rate")
    parser.add_argument("--duration", type=float, required=True, help="seconds of sending")
    parser.add_argument("--offset", type=float, default=0.0, help="seconds into the trace")
    parser.add_argument("--seed", type=int, default=1, help="of prompts and of the mix")
    parser.add_argument(
        "--exclude-first", type=float, default=0.0, help="seconds that the summary leaves out"
    )
    parser.add_argument("--warmup", type=int, default=0, help="short requests sent beforehand")
    parser.add_argument(
        "--drain-timeout", type=float, default=120.0, help="seconds to wait for the last answers"
    )
    parser.add_argument(
        "--silence-timeout", type=float, default=120.0, help="a quieter answer is lost (seconds)"
    )
    parser.add_argument(
        "--pinned-share", type=float, default=0.0, help="part of the requests with a stop string"
    )
    parser.add_argument("--tries", type=int, default=8, help="per request, on 429 and 503")
    parser.add_argument("--output", choices=("ndjson", "text"), default="ndjson")
    return parser
