"""What ends a command, and the exit status that scripts see."""

from typing import Final

DONE: Final = 0
BAD_INPUT: Final = 2
NO_TRAFFIC: Final = 3
UNREACHABLE: Final = 4
BUSY: Final = 5
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
    """A Prometheus or an engine does not answer, or not as one does."""

    status = UNREACHABLE


class NoModel(CommandError):
    """An engine was measured, and what came out makes no model of it."""

    status = NO_TRAFFIC


class EngineBusy(CommandError):
    """An engine serves others, whom a measurement would disturb."""

    status = BUSY
