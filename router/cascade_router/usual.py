"""The usual event of a stream: one id, text, nothing special.

Nearly all events of a leg differ only in their text and their id. From one event that was read the
long way, and what became of it, the pieces around both are learned; the next ones are recognised by
these pieces alone, which takes a third of the time. The pieces begin and end outside of JSON
strings, so no text can imitate them.
"""

from dataclasses import dataclass

from cascade_router import sse

_BACKSLASH = 0x5C
_LINE_END = 0x0A
_DIGITS = 9
"""Of an id, so that it surely fits in 32 bits."""


@dataclass(frozen=True, slots=True)
class UsualEvent:
    """What surrounds text and id in an event of this leg, and in what the client gets for it."""

    head: bytes
    middle: bytes
    tail: bytes
    out_head: bytes
    out_middle: bytes
    """Between text and id; empty for a client that gets no ids."""
    out_tail: bytes
    with_ids: bool
    start: int
    """Where the text begins."""
    middle_size: int
    tail_size: int

    @classmethod
    def learn(cls, event: bytes, out: bytes, chat_in: bool, chat_out: bool) -> "UsualEvent | None":
        """From an event with one id and text, and its output; None where they do not tell."""
        inside, outside = _text_span(event, chat_in), _text_span(out, chat_out)
        member, first, end = sse.token_ids(event)
        if inside is None or outside is None or member < inside[1]:
            return None
        out_member, out_first, out_end = sse.token_ids(out)
        with_ids = out_member >= 0
        return cls(
            head=event[: inside[0]],
            middle=event[inside[1] : first],
            tail=event[end:],
            out_head=out[: outside[0]],
            out_middle=out[outside[1] : out_first] if with_ids else b"",
            out_tail=out[out_end:] if with_ids else out[outside[1] :],
            with_ids=with_ids,
            start=inside[0],
            middle_size=first - inside[1],
            tail_size=len(event) - end,
        )

    def split(self, event: bytes) -> tuple[bytes, bytes] | None:
        """(text, id) if `event` is one usual event, whole, with complete text; else None."""
        if event.startswith(self.head) and event.endswith(self.tail):
            end = event.rfind(self.middle)
            text = event[self.start : end]
            number = event[end + self.middle_size : -self.tail_size]
            if end <= self.start or len(number) > _DIGITS or not number.isdigit():
                return None
            # Nearly all text is ASCII without escapes, and says nothing but itself. (A byte is
            # found by its number six times faster than by a string of one.)
            if (text.isascii() and _BACKSLASH not in text) or is_complete(text):
                # JSON escapes line ends: with one, this is more than one event.
                return None if _LINE_END in text else (text, number)
        return None

    def out(self, text: bytes, number: bytes) -> bytes:
        """What the client gets for it."""
        if self.with_ids:
            return b"".join((self.out_head, text, self.out_middle, number, self.out_tail))
        return self.out_head + text + self.out_tail


def is_complete(text: bytes) -> bool:
    """Whether no character of a text, as it stands in JSON, stands for half of one."""
    if text.isascii() and _BACKSLASH not in text:
        return True
    return sse.REPLACEMENT not in text and sse.REPLACEMENT_ESCAPED not in text


def _text_span(event: bytes, chat: bool) -> tuple[int, int] | None:
    """Where the text begins, after its quote, and where it ends, before its closing quote."""
    return sse.content_span(event) if chat else sse.text_span(event)
