"""The command line of `cascade calibrate`."""

import argparse
from pathlib import Path
from typing import Final

from cascade_cli import values
from cascade_cli.http_options import add_http_arguments

DEFAULT_SECONDS: Final = 180
DEFAULT_TOKENS: Final = 500_000
DEFAULT_BATCH: Final = 64
DEFAULT_REPEATS: Final = 2

EPILOG: Final = """\
examples:
  cascade calibrate --url http://engine:8000 --output mine.json --report mine.html
  cascade plan --trace requests.csv.gz --gpus 16 --cost-model mine.json
  cascade calibrate --url http://engine:8000 --patch patch.json &&
      kubectl patch cascadeservice NAME --type merge --patch-file patch.json

Take the engine out of service first: it is loaded, and others would slow down and disturb it.

exit status:
  0  a model was fitted                     4  the engine does not answer, or breaks off
  2  an option is wrong, or refused         5  the engine serves others
  3  what was measured makes no model     130  interrupted; all streams are closed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `cascade calibrate`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    _add_engine_arguments(parser)
    _add_limit_arguments(parser)
    _add_known_arguments(parser)
    _add_output_arguments(parser)


def _add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the engine")
    group.add_argument(
        "--url", required=True, metavar="URL", help="its address, without /v1: http://HOST:PORT"
    )
    group.add_argument(
        "--model", metavar="NAME", help="the model's name; default: the only one that it serves"
    )
    add_http_arguments(group)


def _add_limit_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what it may cost")
    group.add_argument(
        "--max-seconds",
        type=values.positive_float,
        default=float(DEFAULT_SECONDS),
        metavar="S",
        help=f"time of all measurements (default: {DEFAULT_SECONDS} s)",
    )
    group.add_argument(
        "--max-tokens",
        type=values.positive_int,
        default=DEFAULT_TOKENS,
        metavar="N",
        help=f"prompt tokens in all (default: {DEFAULT_TOKENS:,}); more make longer prompts",
    )
    group.add_argument(
        "--max-batch",
        type=values.positive_int,
        default=DEFAULT_BATCH,
        metavar="N",
        help=f"most sequences at a time (default: {DEFAULT_BATCH})",
    )
    group.add_argument(
        "--repeats",
        type=values.positive_int,
        default=DEFAULT_REPEATS,
        metavar="N",
        help=f"how often all is measured, if there is time (default: {DEFAULT_REPEATS})",
    )
    group.add_argument(
        "--yes-load-it",
        action="store_true",
        help="go on although the engine serves others, or does not tell whether it does",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="say what would be sent, after a short warm-up"
    )
    group.add_argument(
        "--seed",
        type=values.positive_int,
        metavar="N",
        help="of the prompts; default: another each time",
    )


def _add_known_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "what you know of it", "Names as vLLM has them; what is left out is measured or assumed."
    )
    for name, what in (
        ("--max-model-len", "most tokens of a sequence; default: as it says"),
        ("--kv-tokens", "size of its KV cache; default: as it says"),
        ("--max-num-seqs", "most sequences that run at once"),
        ("--max-num-batched-tokens", "most tokens of a step"),
        ("--kv-bytes-per-token", "bytes of a token in the KV cache"),
        ("--gpus-per-instance", "GPUs that it uses"),
    ):
        group.add_argument(name, type=values.positive_int, metavar="N", help=what)
    group.add_argument("--gpu", metavar="TEXT", help="what it runs on, for the profile")


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the answer")
    group.add_argument(
        "--output", type=Path, metavar="FILE", help="write the profile: JSON for --cost-model"
    )
    group.add_argument(
        "--patch", type=Path, metavar="FILE", help="write a merge patch for a CascadeService"
    )
    group.add_argument("--report", type=Path, metavar="FILE", help="write an HTML page with plots")
    group.add_argument("--json", action="store_true", help="print the profile as JSON")
