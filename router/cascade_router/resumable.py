"""A stream that can be continued on another engine: what the client has, and what it still gets.

Owns the token ids of the whole sequence, the clean point up to which text and ids agree, and the
shape of the client's chunks over all legs. Knows nothing of sockets and instances: bytes in, bytes
out.

A *clean point* is the end of a chunk with exactly one id and text that is complete: there the text
of a leg that resumes after these ids joins without loss. Elsewhere the engine may hold back bytes
of a character, and a leg that starts there is of no use for its text; such a seam is joined with
the help of a detokeniser (see `held`).
"""

from typing import Final

import msgspec

from cascade_policy.pins import Pin
from cascade_router import sse
from cascade_router.client_shape import ClientShape
from cascade_router.held import HeldEvents, Seam, SeamTexts
from cascade_router.token_ids import inside, joined, take, token_ids
from cascade_router.usual import UsualEvent, is_complete

ANCHOR_IDS: Final = 32
"""Ids before a clean point that give the detokeniser its context: byte-level and SentencePiece
vocabularies alike settle within a few."""

_CHAT_TEXT: Final = b'"content":"'
_COMPLETION_TEXT: Final = b'"text":"'
_QUOTE: Final = 0x22
_LOST_REASONS: Final = (b'"abort"', b'"error"')


class ResumableStream:
    """The front's view of one stream over all its legs."""

    __slots__ = (
        "_clean",
        "_done",
        "_event_limit",
        "_finished",
        "_held",
        "_ids_shown",
        "_leave_at",
        "_leg_ids",
        "_lost",
        "_shape",
        "_shown",
        "_splitter",
        "_usage_sent",
        "_usual",
        "_usual_now",
        "chat",
        "complete",
        "cut",
        "generated",
        "leg",
        "noteworthy",
        "pin",
        "prompt",
        "prompt_tokens",
        "started",
        "tokens",
        "wants_ids",
        "wants_usage",
    )

    def __init__(self, *, chat: bool, wants_ids: bool, wants_usage: bool, event_limit: int) -> None:
        self.chat = chat
        self.wants_ids = wants_ids
        self.wants_usage = wants_usage
        self._event_limit = event_limit
        self._splitter = sse.EventSplitter(event_limit)
        self._shape = ClientShape(chat=chat, wants_ids=wants_ids)
        self._leave_at: int | None = None
        self._usual: UsualEvent | None = None
        self._usual_now: UsualEvent | None = None
        """The same while its events need no more than to be passed on."""
        # Ids and tokens at the last clean point, None where that is the end; texts and ids shown
        # since.
        self._clean: tuple[int, int] | None = None
        self._leg_ids = 0
        """How many were generated when this leg began."""
        self._lost: str | None = None
        self.noteworthy = False
        """Whether something besides tokens has happened: cut, lost, or text is held."""
        self._shown: list[bytes] = []
        self._ids_shown = False
        self._held: HeldEvents | None = None
        self.prompt: bytes | None = None
        """The prompt's ids, inside of a JSON list; None until the first event has told them."""
        self.prompt_tokens: int | None = None
        self.generated = token_ids()
        self.tokens = 0
        self.leg = 0
        self.pin: Pin | None = None
        """Set when the answer turns out not to be resumable."""
        self.started = False
        self.complete = False
        """Whether the client knows how the answer ended; what is missing still is in `ending`."""
        self._finished = self._usage_sent = self._done = False
        self.cut = False
        """The place to leave this leg is reached; what it sends from here on is not wanted."""

    # Legs ------------------------------------------------------------------------------------

    @property
    def resumable(self) -> bool:
        """Whether another leg can go on from here."""
        return self.prompt is not None and self.pin is None and not self.complete

    @property
    def lost(self) -> str | None:
        """Why the engine gave this stream up, if it said so in the stream."""
        return self._lost

    def begin_leg(self) -> None:
        """A new leg begins; after a loss, call `settle` first. The first leg may be begun again
        as long as the client has seen nothing."""
        self._splitter = sse.EventSplitter(self._event_limit)
        self._leave_at = None
        self._usual = self._usual_now = None
        self.cut = False
        self._lost = None
        if self.started:
            self.leg += 1
        else:
            self.prompt = None
            self.prompt_tokens = None
            self.generated = token_ids()
            self.tokens = 0
            self._clean = None
        self._leg_ids = len(self.generated)
        self.noteworthy = self._held is not None

    def settle(self) -> None:
        """Make the end of the sequence a place to resume at: drop ids that the client knows
        nothing of, or prepare a seam."""
        if not self.resumable:
            return
        self._held = None
        if self._clean is None:
            return
        if self._shown or self._ids_shown:
            shown = (msgspec.json.decode(raw, type=str) for raw in self._shown)
            self._held = HeldEvents("".join(shown))
            return
        ids_clean, self.tokens = self._clean
        del self.generated[ids_clean:]
        self._clean = None

    def ids(self) -> bytes:
        """Prompt and output as the inside of a JSON list: the prompt of the next leg."""
        return joined(self.prompt or b"", inside(self.generated))

    def leave(self, within: int) -> None:
        """Cut this leg at the next clean point, or after `within` more tokens without one."""
        self._leave_at = self.tokens + within
        self._usual_now = None

    def stay(self) -> None:
        """Do not cut this leg after all."""
        self._leave_at = None
        self._look_at_usual()

    @property
    def leaving(self) -> bool:
        """Whether the next clean point is awaited."""
        return self._leave_at is not None

    # Bytes -----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """One read of a leg's body; what the client gets for it. Raises EventTooLarge."""
        usual = self._usual_now
        if usual is not None:
            # Most reads are one usual event, whole.
            parts = usual.split(data)
            if parts is not None and not self._splitter.rest:
                self.generated.append(int(parts[1]))
                self.tokens += 1
                return usual.out(*parts)
        events = self._splitter.feed(data)
        if self._held is not None:
            self._held.add(events)
            return b""
        return self._pass(events)

    def close(self) -> bytes:
        """The leg's body has ended."""
        return b""

    def ending(self) -> bytes:
        """What the client still has to be told when no leg follows: all of the end where the
        stream reached its limit in a leg that could not say so, the rest of it where the last
        leg was lost between its last token and its end."""
        if self._done:
            return b""
        out = b"" if self._finished else self._shape.end_by_length()
        if self.wants_usage and not self._usage_sent and self._shape.known:
            out += self._usage_event()
        self.complete = self._done = True
        return out + sse.DONE_EVENT

    def _pass(self, events: list[bytes]) -> bytes:
        ending = self._leave_at is not None and sse.DONE_EVENT in events
        if ending:
            self.stay()  # The rest of the answer is here: there is nothing to move.
        out = []
        for event in events:
            piece = self._event(event)
            if piece:
                out.append(piece)
            if self.noteworthy:
                break
        if not out:
            return b""
        self.started = True
        return out[0] if len(out) == 1 else b"".join(out)

    def _event(self, event: bytes) -> bytes:
        usual = self._usual_now
        if usual is not None and (parts := usual.split(event)) is not None:
            self.generated.append(int(parts[1]))
            self.tokens += 1
            return usual.out(*parts)
        return self._any_event(event)

    def _any_event(self, event: bytes) -> bytes:
        if not sse.is_compact(event):
            event = sse.normalised(event)
        if self.prompt is None or self.leg:
            event = self._take_prompt(event)
        member, first, end = sse.token_ids(event)
        if member < 0:
            return self._event_without_ids(event)
        ids = event[first:end]
        finished = sse.FINISHED in event
        if finished and sse.finish_of(event) in _LOST_REASONS:
            self._lose("the engine gave the request up")
        if self._lost is not None:
            return b""
        has_text = self._has_text(event)
        try:
            self._take_ids(event, ids, has_text, finished)
        except ValueError:
            self._lose("it sent ids that are none")
            return b""
        if finished:
            self.complete = self._finished = True
        self._look_at_usual()
        if not (has_text or finished or self.wants_ids or self.pin is not None):
            return b""
        if self.leg:
            out = self._shape.of_later(event, ids, (member, end + 1))
        else:
            out = event if self.wants_ids else event[:member] + event[end + 1 :]
        if self._clean is None and self.tokens > 1 and self._usual is None and self.pin is None:
            self._usual = UsualEvent.learn(event, out, self.chat and not self.leg, self.chat)
            self._look_at_usual()
        return out

    def _look_at_usual(self) -> None:
        """Usual events need no more than to be passed on while text and ids agree and the leg is
        to stay."""
        stays = self._clean is None and self._leave_at is None and self._held is None
        self._usual_now = self._usual if stays and not self.noteworthy else None

    def _take_ids(self, event: bytes, ids: bytes, has_text: bool, finished: bool) -> None:
        """Keep the ids, and note whether text and ids agree after them."""
        count = sse.count_ids(ids)
        before = (len(self.generated), self.tokens)
        if count:
            take(self.generated, ids)
            self.tokens += count
        if count == 1 and has_text and not finished and is_complete(self._raw_text(event)):
            self._clean = None
            self._ids_shown = False
            self._shown.clear()
            if self._leave_at is not None:
                self.cut = self.noteworthy = True
            return
        if self._clean is None and (count or has_text):
            self._clean = before
        if has_text:
            self._shown.append(self._raw_text(event))
        if count and self.wants_ids:
            self._ids_shown = True
        if self._leave_at is not None and self.tokens >= self._leave_at and not finished:
            self.cut = self.noteworthy = True

    def _lose(self, reason: str) -> None:
        self._lost = reason
        self.noteworthy = True

    def _event_without_ids(self, event: bytes) -> bytes:
        if event == sse.DONE_EVENT:
            self.complete = self._done = True
            return event
        if event.startswith(b'data: {"error"'):
            self._lose("the engine reported an error")
            return b""
        if b'"choices":[]' in event:
            self._usage_sent = True
            if not self.leg:
                return event
            return self._usage_event(event) if self.wants_usage else b""
        if self._has_text(event) or b'"role":' not in event:
            self._look_for_parsers(event)
            if sse.FINISHED in event:
                self.complete = self._finished = True
            elif self._has_text(event):
                self.tokens += 1
                if self.pin is None:
                    self.pin = Pin.NO_IDS
        return event if not self.leg or event.startswith(b":") else b""

    def _look_for_parsers(self, event: bytes) -> None:
        if self.chat and self.pin is None and event.startswith(b"data: {"):
            self.pin = Pin.PARSER if sse.has_foreign_parts(event) else None

    def _take_prompt(self, event: bytes) -> bytes:
        """Keep the prompt's ids and the identity of the answer; hide the ids from a client that
        did not ask for them, and the ones that a later leg repeats."""
        start, first, end = sse.prompt_ids(event)
        if start < 0:
            return event
        if self.prompt is None:
            self.prompt = event[first:end].replace(b" ", b"")
            self.prompt_tokens = sse.count_ids(self.prompt)
            self._shape.learn(event)
        elif self.leg and event[first:end].replace(b" ", b"") != self._given():
            self._lose("it resumed other ids than it was given")
            return event
        elif self.wants_ids and not self.chat:
            return event[:start] + b',"prompt_token_ids":null' + event[end + 1 :]
        elif not self.leg:
            return event
        if self.wants_ids and not self.leg:
            return event
        return event[:start] + event[end + 1 :]

    def _given(self) -> bytes:
        """The prompt that this leg was given."""
        return joined(self.prompt or b"", inside(self.generated, 0, self._leg_ids))

    def _has_text(self, event: bytes) -> bool:
        key = _CHAT_TEXT if self.chat and not self.leg else _COMPLETION_TEXT
        at = event.find(key)
        if key is _CHAT_TEXT and (b'"reasoning' in event or b'"tool_calls"' in event):
            self._look_for_parsers(event)
        return at >= 0 and event[at + len(key)] != _QUOTE

    def _raw_text(self, event: bytes) -> bytes:
        return sse.content_of(event) if self.chat and not self.leg else sse.text_of(event)

    def _usage_event(self, event: bytes = b"") -> bytes:
        return self._shape.usage(self.prompt_tokens or 0, self.tokens, event)

    # Seams -----------------------------------------------------------------------------------

    @property
    def joinable(self) -> bool:
        """Whether text is held until a seam is joined, and there is enough to join it."""
        return self._held is not None and self._held.joinable

    def seam(self) -> Seam | None:
        """What to ask the detokeniser, as soon as the new leg has brought text."""
        if self._held is None or not self._held.joinable:
            return None
        clean = len(self.generated) if self._clean is None else self._clean[0]
        missing = ANCHOR_IDS - clean
        before = sse.tail_ids(self.prompt or b"", missing) if missing > 0 else b""
        anchor = joined(before, inside(self.generated, max(0, clean - ANCHOR_IDS), clean))
        known = joined(anchor, inside(self.generated, clean))
        return Seam(anchor, known, joined(known, *self._held.ids()))

    def unsaid_names(self, texts: SeamTexts) -> list[str]:
        """What may be names of special tokens in the answers to `seam()`: leave their ids out."""
        return [] if self._held is None else self._held.unsaid_names(texts)

    def join(self, texts: SeamTexts) -> bytes:
        """What the client has not seen of the text, then what was held. Sets `lost` if the texts,
        answers to `seam()` without special tokens, contradict what it has seen."""
        held = self._held
        if held is None:
            return b""
        text = held.text_to_give(texts)
        if text is None:
            self._lose("the text at the seam cannot be joined")
            return b""
        joined, rest = held.joined(msgspec.json.encode(text))
        self._held = None
        self.noteworthy = False
        out = self._pass([joined])
        if held.ends_clean:
            self._shown.clear()
            self._ids_shown = False
            self._clean = None
        return out + (b"" if self.noteworthy else self._pass(rest))
