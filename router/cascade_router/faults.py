"""How a fault of the router is told in its log: what it is and where it happened.

Never in its own words: the message of an exception may repeat what a client wrote or an engine
made, such as the text that could not be read as a number.
"""

import asyncio
import logging
import os
import traceback
from pathlib import Path
from typing import Any, Final

MOST_FRAMES: Final = 12

_log = logging.getLogger(__name__)


def told(error: BaseException | None) -> str:
    """`TypeError at session.py:120 _serve < session.py:80 _run`, the innermost place first."""
    if error is None:
        return "an unknown fault"
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    text = type(error).__name__
    if places:
        text += " at " + " < ".join(reversed(places))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text if cause is None else f"{text}, while dealing with {type(cause).__name__}"


def why_broken(error: BaseException | None) -> str:
    """Why a connection broke, for the log and for other clients' errors: the system's words, or
    the name of what else it was."""
    if error is None:
        return "the connection broke"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return type(error).__name__


def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
    """The loop's handler of exceptions that nobody caught. Its own would print the callback with
    its arguments, which may be a prompt."""
    error = context.get("exception")
    if isinstance(error, BaseException):
        _log.error("a fault that nobody caught: %s", told(error))
    else:
        _log.error("%s", context.get("message", "a fault that nobody caught"))
