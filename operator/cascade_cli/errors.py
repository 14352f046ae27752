"""What ends a command, and the exit status that scripts see."""

from typing import Final

DONE: Final = 0
BAD_INPUT: Final = 2
NO_TRAFFIC: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130


class CommandError(Exception):
    """The command cannot go on; the message says why, and what to do."""

    status: int = BAD_INPUT


class BadInput(CommandError):
    """An option, or a file that one names, cannot be used."""


class NoTraffic(CommandError):
    """The source is fine, but holds no traffic to plan for."""

    status = NO_TRAFFIC


class Unreachable(CommandError):
    """Prometheus does not answer, or not as a Prometheus does."""

    status = UNREACHABLE
