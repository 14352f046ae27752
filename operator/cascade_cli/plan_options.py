"""The command line of `cascade plan`."""

import argparse
from typing import Final

from cascade_cli import values
from cascade_cli.errors import BadInput
from cascade_cli.http_options import add_http_arguments
from cascade_cli.pool import add_pool_arguments
from cascade_planner.objective import RECOMPUTE, Objective
from cascade_planner.plan import PlanOptions

DEFAULT_WINDOW: Final = "1h"
_SOURCES_OF: Final = {
    "model": ("prometheus", "histogram"),
    "seconds": ("histogram",),
    "window": ("prometheus",),
    "selector": ("prometheus",),
    "header": ("prometheus",),
    "bearer_token_file": ("prometheus",),
    "ca_file": ("prometheus",),
}
"""Options that mean something for some sources only."""

EXAMPLES: Final = """\
examples:
  cascade plan --trace requests.csv.gz --gpus 16
  cascade plan --trace requests.csv.gz --gpus 16 --load 0.7 --explain
  cascade plan --prometheus http://prometheus:9090 --window 6h --gpus 32 --profile h200-8b
  curl -s http://engine:8000/metrics |
      cascade plan --histogram - --seconds 3600 --gpus 8 --json

exit status:
  0  a plan was made                    3  the source holds no traffic, or too little
  2  an option or a file is wrong       4  Prometheus does not answer
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `cascade plan`."""
    parser.epilog = EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_source_arguments(parser)
    add_pool_arguments(parser)
    _add_planning_arguments(parser)
    _add_level_arguments(parser)
    _add_prometheus_arguments(parser)
    output = parser.add_argument_group("the answer")
    output.add_argument(
        "--explain", action="store_true", help="say what else was looked at, and what is assumed"
    )
    output.add_argument("--json", action="store_true", help="print JSON of a stable shape")


def check_options(args: argparse.Namespace) -> None:
    """Refuse options that would be ignored. Raises BadInput."""
    for name, sources in _SOURCES_OF.items():
        if getattr(args, name) is not None and all(getattr(args, one) is None for one in sources):
            option = name.replace("_", "-")
            raise BadInput(f"--{option} goes with --{' or --'.join(sources)}: leave it out")
    if args.boundaries is not None and args.max_stages is not None:
        raise BadInput("--boundaries say how many stages there are: leave --max-stages out")


def _add_source_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_argument_group("the traffic, from one of").add_mutually_exclusive_group(
        required=True
    )
    source.add_argument(
        "--trace",
        metavar="FILE",
        help="Azure CSV, Mooncake JSONL, or CSV of prompt,output or arrival,prompt,output (tokens, "
        "seconds); plain, .gz or .xz; - for standard input",
    )
    source.add_argument(
        "--prometheus",
        metavar="URL",
        help="a Prometheus that scrapes vLLM (nothing of this project need be installed) or the "
        "routers of a CascadeService",
    )
    source.add_argument(
        "--histogram",
        metavar="FILE",
        help='the text of an engine\'s /metrics page, or JSON {"prompt": [[LE, COUNT], ...], '
        '"final" or "output": [...], "seconds": N}; - for standard input',
    )
    shared = parser.add_argument_group("about the source")
    shared.add_argument(
        "--max-length",
        type=values.positive_int,
        metavar="L",
        help="most tokens of a sequence, as the engine is set; default: from the traffic",
    )
    shared.add_argument(
        "--model",
        metavar="NAME",
        help="with --prometheus or --histogram: which model, or which service as namespace/name, "
        "where there are several",
    )
    shared.add_argument(
        "--seconds",
        type=values.positive_float,
        metavar="S",
        help="with --histogram: the time in which all was counted",
    )


def _add_planning_arguments(parser: argparse.ArgumentParser) -> None:
    defaults, limits = Objective(), PlanOptions()
    group = parser.add_argument_group("the plan")
    group.add_argument(
        "--ttft",
        type=values.positive_float,
        default=defaults.ttft_target_ms,
        metavar="MS",
        help=f"target of the time to first token (default: {defaults.ttft_target_ms:g} ms)",
    )
    group.add_argument(
        "--tpot",
        type=values.positive_float,
        default=defaults.tpot_target_ms,
        metavar="MS",
        help=f"target of the time per output token (default: {defaults.tpot_target_ms:g} ms)",
    )
    group.add_argument(
        "--max-stages",
        type=values.positive_int,
        metavar="N",
        help=f"most stages (default: {limits.max_stages})",
    )
    group.add_argument(
        "--boundaries",
        type=values.boundaries,
        metavar="A,B,...",
        help="greatest lengths of all stages but the last, in tokens; default: found",
    )
    group.add_argument(
        "--transport",
        type=values.transport,
        default=RECOMPUTE,
        metavar="HOW",
        help="how a sequence gets to the next stage: recompute (default), or copy:GB/s",
    )


def _add_level_arguments(parser: argparse.ArgumentParser) -> None:
    level = parser.add_argument_group(
        "another level of the same traffic", "Without any: as it was observed."
    ).add_mutually_exclusive_group()
    level.add_argument(
        "--rate", type=values.positive_float, metavar="R", help="R requests per second"
    )
    level.add_argument(
        "--speed",
        type=values.positive_float,
        default=1.0,
        metavar="X",
        help="X times the observed rate",
    )
    level.add_argument(
        "--load",
        type=values.positive_float,
        metavar="X",
        help="the rate that keeps the pool busy for the share X of its time; 1 is its limit",
    )


def _add_prometheus_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("with --prometheus")
    group.add_argument(
        "--window",
        type=values.duration,
        metavar="T",
        help=f"how far to look back: 15m, 6h, 2d (default: {DEFAULT_WINDOW})",
    )
    group.add_argument(
        "--selector",
        metavar="LABELS",
        help="""only series with these labels, such as 'namespace="chat",cluster="eu"'""",
    )
    add_http_arguments(group)
