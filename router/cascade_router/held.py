"""Events of a leg that began where text and ids disagree, held back until the seam is joined."""

from dataclasses import dataclass

from cascade_router import sse

_TEXT = b'"text":"'
_QUOTE = 0x22


@dataclass(frozen=True, slots=True)
class Seam:
    """What the detokeniser is asked: the text of `anchor`, and of `ids`, which begin with it
    (insides of JSON lists)."""

    anchor: bytes
    ids: bytes


class HeldEvents:
    """Completions events in order, of a leg that was asked for ids."""

    def __init__(self) -> None:
        self._events: list[bytes] = []

    def add(self, events: list[bytes]) -> None:
        """More events of the leg."""
        self._events += [
            event if sse.is_compact(event) else sse.normalised(event) for event in events
        ]

    @property
    def joinable(self) -> bool:
        """Whether the first text, or the end, is there."""
        return self._first_text() is not None

    def ids(self) -> list[bytes]:
        """The ids up to the first text, as insides of JSON lists."""
        position = self._first_text()
        return [] if position is None else _ids_of(self._events[: position + 1])

    def joined(self, text: bytes) -> tuple[bytes, list[bytes]]:
        """One event with all ids up to the first text and this `text` (a JSON string), and the
        events after it."""
        position = self._first_text()
        if position is None:
            return b"", []
        event = self._events[position]
        last = sse.text_of(event)
        joined = event.replace(b'"text":' + last, b'"text":' + text, 1)
        before = _ids_of(self._events[:position])
        if before:
            ids = b",".join(before) + b","
            joined = joined.replace(sse.TOKEN_IDS, sse.TOKEN_IDS + ids, 1)
        return joined, self._events[position + 1 :]

    def _first_text(self) -> int | None:
        for position, event in enumerate(self._events):
            at = event.find(_TEXT)
            if sse.FINISHED in event or (at >= 0 and event[at + len(_TEXT)] != _QUOTE):
                return position
        return None


def _ids_of(events: list[bytes]) -> list[bytes]:
    spans = [(event, *sse.token_ids(event)) for event in events]
    return [event[first:end] for event, _, first, end in spans if end > first >= 0]
