"""Finds stop strings in a growing text and holds back what may be the beginning of one."""

from collections.abc import Sequence


class StopFinder:
    """Gives text out as late as it must: never a character that may belong to a stop string."""

    def __init__(self, stops: Sequence[str], *, keep: bool) -> None:
        self._stops = tuple(stops)
        self._keep = keep
        self._hold = 0 if keep else max(map(len, stops)) - 1
        self._text = ""
        self._given = 0

    def feed(self, text: str) -> tuple[str, str | None]:
        """(text to give out now, the stop string that ended it); nothing may follow one."""
        searched_from = max(0, len(self._text) - max(map(len, self._stops)) + 1)
        self._text += text
        found = [
            (place, stop)
            for stop in self._stops
            if (place := self._text.find(stop, searched_from)) >= 0
        ]
        if found:
            place, stop = min(found)
            return self._text[self._given : place + len(stop) * self._keep], stop
        return self._give(len(self._text) - self._hold), None

    def flush(self) -> str:
        """What is still held back, when the sequence has ended without a stop string."""
        return self._give(len(self._text))

    def _give(self, end: int) -> str:
        text = self._text[self._given : max(self._given, end)]
        self._given += len(text)
        return text
