"""Which pods have been there for long enough that everybody must have noticed them."""

from collections import deque

STEADY_SECONDS = 120.0
"""Two scrapes of a minute: as long as metrics may be old."""


class Steady:
    """Names that were seen each time within the last STEADY_SECONDS."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, frozenset[str]]] = deque()

    def see(self, present: frozenset[str], now: float) -> frozenset[str]:
        """Those of `present` that are steady at `now` (seconds; what was seen after it, before a
        clock was set back, is forgotten)."""
        while self._seen and self._seen[-1][0] > now:
            self._seen.pop()
        self._seen.append((now, present))
        while len(self._seen) > 1 and self._seen[1][0] <= now - STEADY_SECONDS:
            self._seen.popleft()
        if self._seen[0][0] > now - STEADY_SECONDS:
            return frozenset()
        return frozenset.intersection(*(names for _, names in self._seen))
