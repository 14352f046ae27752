"""Events of a leg that began where text and ids disagree, held back until the seam is joined."""

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Final

import msgspec

from cascade_router import sse
from cascade_router.usual import is_complete

_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_TEXT = b'"text":"'
_QUOTE = 0x22
_NAME: Final = re.compile(r"<[^<>]{1,64}>|\[[^\[\]]{1,64}\]")
"""Special tokens are called so, by convention of all vocabularies."""


@dataclass(frozen=True, slots=True)
class Seam:
    """What the detokeniser is asked: the texts of ids (insides of JSON lists). Each begins with the
    one before it."""

    anchor: bytes
    """Up to the clean point."""
    before: bytes
    """Up to where the new leg began."""
    ids: bytes
    """Up to the new leg's first text."""

    def without(self, ids: Container[bytes]) -> "Seam":
        """The same as if the sequence had none of these `ids`."""

        def rest(part: bytes) -> bytes:
            return b",".join(one for one in part.split(b",") if one not in ids)

        return Seam(rest(self.anchor), rest(self.before), rest(self.ids))


@dataclass(frozen=True, slots=True)
class SeamTexts:
    """The answers, in the same order."""

    anchor: str
    before: str
    ids: str


class HeldEvents:
    """Completions events in order, of a leg that was asked for ids. `shown`: what the client has
    been shown of the text since the clean point."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
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

    def text_to_give(self, texts: SeamTexts) -> str | None:
        """What the client has not seen of the text up to the new leg's first text; None where the
        answers contradict what it has seen.

        Engines give out no part of a character that is not complete, nor of an id that ends in
        one: whatever follows the leg's own text comes later, or never.
        """
        said = self._said()
        text = _after_clean(said, texts, self._shown)
        if text is None and texts.anchor.endswith(_REPLACEMENT):
            return _after_leak(said, texts, self._shown)
        return text

    def unsaid_names(self, texts: SeamTexts) -> list[str]:
        """What may be names of special tokens in the texts: a detokeniser writes them, a stream
        leaves them out. What an engine has given out is none."""
        given = self._shown + self._said()
        names = dict.fromkeys(_NAME.findall(texts.ids))
        return [name for name in names if name not in given]

    @property
    def ends_clean(self) -> bool:
        """Whether the leg's first text is that of one id, and complete."""
        position = self._first_text()
        if position is None or sse.FINISHED in self._events[position]:
            return False
        ids = _ids_of(self._events[position : position + 1])
        return [sse.count_ids(one) for one in ids] == [1] and is_complete(
            sse.text_of(self._events[position])
        )

    def _said(self) -> str:
        """The first text, as the leg's engine gave it out."""
        position = self._first_text()
        raw = b'""' if position is None else sse.text_of(self._events[position])
        return msgspec.json.decode(raw, type=str)

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


def _after_clean(said: str, texts: SeamTexts, shown: str) -> str | None:
    """What is still to be given where the anchor's text is complete."""
    start = len(texts.anchor)
    if not (texts.before.startswith(texts.anchor) and texts.ids.startswith(texts.anchor)):
        return None
    if not texts.before.endswith(_REPLACEMENT):
        new = texts.before[start:] + said
    elif not said:
        new = shown
    else:
        new = _last_of(said, texts)
    return new[len(shown) :] if new.startswith(shown) else None


def _last_of(said: str, texts: SeamTexts) -> str:
    """The text since the clean point in what an engine has `said` whose leg began inside a
    character: that is the text of its whole prompt, and more."""
    known, start = texts.ids, len(texts.anchor)
    # An anchor that begins inside a character has nothing to compare there.
    first = len(texts.anchor) - len(texts.anchor.lstrip(_REPLACEMENT))
    for end in range(len(known), start - 1, -1):
        if said.endswith(known[first:end]):
            return known[start:end]
    return known[start:].rstrip(_REPLACEMENT)


def _after_leak(said: str, texts: SeamTexts, shown: str) -> str | None:
    """The same where the client's own prompt ends inside a character, so that the first leg began
    with the text of the whole prompt."""
    if texts.before.endswith(_REPLACEMENT):
        # So did the new leg.
        return said[len(shown) :] if said.startswith(shown) else "" if not said else None
    first = len(texts.before) - len(texts.before.lstrip(_REPLACEMENT))
    for end in range(len(texts.before), first, -1):
        if shown.endswith(texts.before[first:end]):
            return texts.before[end:] + said
    return None
