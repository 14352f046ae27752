"""Waiting for a condition instead of sleeping."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class DeadlinePassed(AssertionError):
    """What was waited for did not happen in time; the message says what was seen last."""


def until(
    what: str,
    probe: Callable[[], T | None],
    *,
    seconds: float,
    every: float = 0.25,
    seen: Callable[[], object] = lambda: "",
) -> T:
    """The first true result of `probe`: nothing found yet, be it an empty list, is none.

    Raises DeadlinePassed with `what` and the value of `seen` after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise DeadlinePassed(f"after {seconds:g} s still not: {what}. Last seen: {seen()}")
        time.sleep(every)
