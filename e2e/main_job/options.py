"""What a user can ask of the demo."""

import argparse
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION = """\
Runs CascadeService on a real Kubernetes: builds it, installs it, sends a real trace at it with
one stage, lets the operator plan and move warm pods under traffic, and compares."""


@dataclass(frozen=True)
class Options:
    """The demo's options. Durations in seconds, rates in requests per second."""

    cluster: str
    boundaries: str
    json_file: Path | None
    down: bool
    plain: bool
    rate: float
    seconds: float
    gpus: int


def parse(arguments: list[str]) -> Options:
    """Read the command line; exits with 2 on a mistake, as argparse does."""
    parser = argparse.ArgumentParser(prog="e2e/demo", description=DESCRIPTION)
    parser.add_argument(
        "--cluster",
        choices=("auto", "current", "kind", "local"),
        default="auto",
        help="your KUBECONFIG, kind, or Kubernetes built here; default: the best there is",
    )
    parser.add_argument(
        "--boundaries",
        choices=("soft", "hard"),
        default="soft",
        help="soft: ranges are a preference, the price decides; hard: the papers' form",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", dest="json_file")
    parser.add_argument(
        "--down", action="store_true", help="remove the cluster and everything that runs for it"
    )
    parser.add_argument("--plain", action="store_true", help="lines instead of a live view")
    parser.add_argument(
        "--rate", type=_positive, default=10.0, help="requests per second (default: %(default)s)"
    )
    parser.add_argument(
        "--seconds",
        type=_positive,
        default=40.0,
        help="length of each measured replay (default: %(default)s)",
    )
    parser.add_argument("--gpus", type=int, default=8, help="simulated GPUs (default: %(default)s)")
    found = parser.parse_args(arguments)
    if found.gpus < 2:
        parser.error("--gpus must be at least 2: one instance can only form one stage")
    return Options(
        cluster=found.cluster,
        boundaries=found.boundaries,
        json_file=found.json_file,
        down=found.down,
        plain=found.plain,
        rate=found.rate,
        seconds=found.seconds,
        gpus=found.gpus,
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 10_000:
        raise argparse.ArgumentTypeError(f"must be above 0 and below 10000, not {text}")
    return value
