"""The command `cascade` and its sub-commands."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Final, Protocol, cast

from cascade_cli.errors import BAD_INPUT, INTERRUPTED, CommandError
from cascade_cli.traces import InvalidTrace


class Command(Protocol):
    """A module of a sub-command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the sub-command's options to its parser."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit status. Raises CommandError, InvalidTrace."""


COMMANDS: Final = {
    "plan": ("plan_command", "what would you do with my traffic, and what is it worth?"),
    "simulate": ("simulate_command", "which policy would serve my traffic best?"),
    "calibrate": ("calibrate_command", "what does a step of my engine cost?"),
    "profiles": ("profiles_command", "list the engine profiles"),
}
"""Module and summary of each sub-command, by its name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command; the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        status = _run(given)
        sys.stdout.flush()
    except CommandError as error:
        return _failed(error, error.status)
    except InvalidTrace as error:
        return _failed(error, BAD_INPUT)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough; what is left must not fail at the interpreter's exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except OSError as error:
        # What a file on the way in cannot give is told by whoever reads it; this is the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _failed(CommandError(f"the answer cannot be written: {error.strerror}"), BAD_INPUT)
    return status


def _run(given: Sequence[str]) -> int:
    name = next((word for word in given if not word.startswith("-")), "")
    # Only the one that is asked for: plots and simulators take a moment to load.
    command = _load(name) if name in COMMANDS else None
    args = _parser(name, command).parse_args(given)
    assert command is not None, "the parser requires a known sub-command"
    return command.run(args)


def _failed(error: Exception, status: int) -> int:
    print(f"cascade: {error}", file=sys.stderr)
    return status


def _load(name: str) -> Command:
    return cast(Command, import_module(f"cascade_cli.{COMMANDS[name][0]}"))


def _parser(chosen: str, command: Command | None) -> argparse.ArgumentParser:
    """The parser of everything; of the sub-commands, only the chosen one knows its options."""
    parser = argparse.ArgumentParser(
        prog="cascade",
        description="Plans pools of LLM engines that specialise in lengths of sequences, and "
        "simulates them.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"cascade {version('cascadeservice')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, summary) in COMMANDS.items():
        sub_parser = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}", allow_abbrev=False
        )
        if command is not None and name == chosen:
            command.add_arguments(sub_parser)
    return parser
