"""The command line of `cascade simulate`."""

import argparse
from pathlib import Path
from typing import Final

from cascade_cli.parallel import default_jobs
from cascade_cli.pool import add_pool_arguments
from cascade_cli.scenario import Pace, Scenario
from cascade_cli.values import gigabytes_per_second, not_negative, positive_float, positive_int
from cascade_simulator.options import Links
from cascade_simulator.policies.registry import UnknownPolicy, describe
from cascade_simulator.policy import Transport

DEFAULT_POLICIES: Final = ("least-work", "llumnix-balanced", "cascade+handover")

EXAMPLES: Final = """\
examples:
  cascade simulate --trace requests.csv.gz --gpus 16
  cascade simulate --trace requests.csv.gz --gpus 16 --load .5,.7,.85 --seeds 3 \\
      --policies least-work,llumnix,cascade,cascade+handover --report simulation.html
  cascade simulate --trace requests.csv.gz --gpus 8 --workload drifting --transport copy:25
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of `cascade simulate`."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_traffic_arguments(parser)
    add_pool_arguments(parser)
    _add_run_arguments(parser)
    output = parser.add_argument_group("the answer")
    output.add_argument(
        "--report", type=Path, metavar="FILE", help="write one HTML file with plots there"
    )
    output.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    output.add_argument(
        "--jobs",
        type=positive_int,
        default=default_jobs(),
        metavar="N",
        help="runs at once (default: the cores of this machine)",
    )


def _add_traffic_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Scenario(policy="")
    group = parser.add_argument_group("the traffic")
    group.add_argument(
        "--trace",
        required=True,
        metavar="FILE",
        help="Azure CSV, Mooncake JSONL, or CSV of prompt,output or arrival,prompt,output (tokens, "
        "seconds); plain, .gz or .xz; - for standard input",
    )
    group.add_argument(
        "--workload",
        type=Pace,
        choices=tuple(Pace),
        default=defaults.pace,
        help="stationary: drawn at random; compressed: in the order of the trace, faster; "
        f"drifting: at the speed of the trace (default: {defaults.pace})",
    )
    group.add_argument(
        "--load",
        type=loads,
        default=(defaults.load,),
        metavar="X,Y",
        help="work that arrives, relative to the limit of stability, one or several "
        f"(default: {defaults.load:g})",
    )
    group.add_argument(
        "--requests",
        type=positive_int,
        default=defaults.requests,
        metavar="N",
        help=f"requests of each run (default: {defaults.requests})",
    )
    group.add_argument(
        "--seeds",
        type=positive_int,
        default=1,
        metavar="N",
        help="runs of everything, with other random numbers (default: 1)",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = Scenario(policy="")
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "--policies",
        type=policies,
        default=DEFAULT_POLICIES,
        metavar="A,B",
        help=f"ways to choose an instance for a request (default: {','.join(DEFAULT_POLICIES)}); "
        "an unknown name lists all",
    )
    group.add_argument(
        "--heterogeneity",
        type=not_negative,
        metavar="G",
        help="how much uneven lengths slow attention: H = 1 + G * cv of the lengths in a batch, at "
        "most 1.5 (default: the profile's)",
    )
    group.add_argument(
        "--transport",
        type=links,
        default=Links(),
        metavar="T",
        help="how running sequences move: recompute, warm, or copy:GB/s (default: recompute)",
    )
    group.add_argument(
        "--prefix-cache",
        action="store_true",
        help="engines keep the KV of finished prompts; for traces that tell blocks",
    )
    for option, what, value in (
        ("--ttft", "the time to first token", defaults.ttft_target_ms),
        ("--tpot", "the time per output token", defaults.tpot_target_ms),
    ):
        group.add_argument(
            option,
            type=positive_float,
            default=value,
            metavar="MS",
            help=f"target of {what} (default: {value:g} ms)",
        )


def loads(text: str) -> tuple[float, ...]:
    """Numbers above 0, each once, with commas between them."""
    return tuple(sorted({positive_float(part) for part in text.split(",")}))


def policies(text: str) -> tuple[str, ...]:
    """Known names, each once, with commas between them."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    try:
        for name in names:
            describe(name)
    except UnknownPolicy as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return names


def links(text: str) -> Links:
    """`recompute`, `warm`, `copy`, or `copy:GB/s`."""
    kind, colon, bandwidth = text.partition(":")
    if kind not in set(Transport) or (colon and kind != Transport.COPY):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no transport; write recompute, warm, or copy:25 for a copy at 25 GB/s"
        )
    if not colon:
        return Links(transport=Transport(kind))
    return Links(transport=Transport.COPY, bytes_per_ms=gigabytes_per_second(bandwidth))
