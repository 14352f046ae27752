"""The usual event of a stream: one id, text, nothing special.

Nearly all events of a leg differ only in their text and their id. From one event that was read the
long way, and what became of it, the pieces around both are learned; the next ones are recognised by
these pieces alone, which takes a third of the time. The pieces begin and end outside of JSON
strings, so no text can imitate them.
"""

from dataclasses import dataclass

from cascade_router import sse


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
        )

    def split(self, event: bytes) -> tuple[bytes, bytes] | None:
        """(text, id) of a usual event whose text is complete and not empty, else None."""
        if not (event.startswith(self.head) and event.endswith(self.tail)):
            return None
        start, end = len(self.head), event.rfind(self.middle)
        if end <= start:
            return None
        number = event[end + len(self.middle) : -len(self.tail)]
        if not number.isdigit() or sse.REPLACEMENT in event or sse.REPLACEMENT_ESCAPED in event:
            return None
        return event[start:end], number

    def out(self, text: bytes, number: bytes) -> bytes:
        """What the client gets for it."""
        if self.with_ids:
            return b"".join((self.out_head, text, self.out_middle, number, self.out_tail))
        return b"".join((self.out_head, text, self.out_tail))


def _text_span(event: bytes, chat: bool) -> tuple[int, int] | None:
    """Where the text begins, after its quote, and where it ends, before its closing quote."""
    return sse.content_span(event) if chat else sse.text_span(event)
