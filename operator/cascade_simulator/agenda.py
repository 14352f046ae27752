"""Simulated time: what happens next, and what time it is."""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Agenda:
    """Events in order of time; those of one moment in the order in which they were entered."""

    __slots__ = ("_entered", "_events", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """ms since the start of the run."""
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._entered = 0

    def at(self, time_ms: float, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action(*arguments)` at `time_ms`."""
        self._entered += 1
        heappush(self._events, (time_ms, self._entered, action, arguments))

    @property
    def next_ms(self) -> float:
        """When the next event is; infinite when there is none."""
        return self._events[0][0] if self._events else float("inf")

    def run_next(self) -> None:
        """Let time pass to the next event, and call it."""
        self.now, _, action, arguments = heappop(self._events)
        action(*arguments)
