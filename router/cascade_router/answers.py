"""Answers that are passed on as they come: unstreamed ones and pinned streams.

They are counted, never cut. What both kinds of answer tell the session stands in `Progress`.
"""

from typing import Protocol

from cascade_router import sse
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream

_TAIL_BYTES = 4096
_LAST_EVENTS = frozenset(
    {
        *(b"response.completed", b"response.incomplete", b"response.failed"),
        *(b"message_stop", b"error"),
    }
)
"""Typed events after which nothing is missing: of the Responses and the Messages API."""


class Answer(Protocol):
    """The client's answer, made of one leg or several: bytes of legs in, bytes for the client out.

    `prompt_tokens` is None until it is known exactly; `tokens` counts what was generated.
    """

    prompt_tokens: int | None
    tokens: int
    started: bool
    """Whether the client got any part of the body."""
    complete: bool
    """Whether the answer has ended as it should."""
    cut: bool
    """Whether the place to leave the leg is reached."""
    noteworthy: bool
    """Whether anything besides tokens has happened: cut, lost, or text waits for a seam."""

    @property
    def lost(self) -> str | None:
        """Why the engine gave the answer up, if it said so."""

    @property
    def joinable(self) -> bool:
        """Whether text is held until a seam is joined, and there is enough to join it."""

    @property
    def resumable(self) -> bool:
        """Whether another leg can go on from here."""

    def begin_leg(self) -> None:
        """A new leg begins."""

    def settle(self) -> None:
        """A leg is over too early: make the end of what is there a place to go on from."""

    def feed(self, data: bytes) -> bytes:
        """One read of a leg's body; what the client gets for it."""

    def close(self) -> bytes:
        """The leg's body has ended as HTTP; what the client still gets."""


class _Passed:
    """An answer that passes untouched. It can only be run again, as long as the client has seen
    nothing of it."""

    cut = False
    noteworthy = False
    lost: str | None = None
    joinable = False
    resumable = False

    def __init__(self) -> None:
        self.prompt_tokens: int | None = None
        self.tokens = 0
        self.started = False
        self.complete = False

    def settle(self) -> None:
        """There is nothing to go on from."""


class WholeAnswer(_Passed):
    """One JSON body; its end is searched for the usage."""

    def __init__(self) -> None:
        super().__init__()
        self._tail = b""

    def begin_leg(self) -> None:
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        self.started = self.started or bool(data)
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        return data

    def close(self) -> bytes:
        self.complete = True
        usage = sse.usage_of(self._tail)
        if usage is not None:
            self.prompt_tokens, self.tokens = usage
        return b""


class PinnedStream(_Passed):
    """Events. Tokens are counted by them, corrected by the usage."""

    def __init__(self, event_limit: int) -> None:
        super().__init__()
        self._event_limit = event_limit
        self._splitter = sse.EventSplitter(event_limit)

    def begin_leg(self) -> None:
        self._splitter = sse.EventSplitter(self._event_limit)

    def feed(self, data: bytes) -> bytes:
        events = self._splitter.feed(data)
        for event in events:
            if event == sse.DONE_EVENT:
                self.complete = True
            elif event.startswith(sse.EVENT):
                self._typed(event)
            elif b'"choices":[]' in event:
                usage = sse.usage_of(event)
                if usage is not None:
                    self.prompt_tokens, self.tokens = usage
            else:
                self.tokens += sse.count_tokens(event)
        passed = b"".join(events)
        self.started = self.started or bool(passed)
        return passed

    def close(self) -> bytes:
        return b""

    def _typed(self, event: bytes) -> None:
        name = sse.event_name(event)
        self.complete = self.complete or name in _LAST_EVENTS
        usage = None if name == b"message_start" else sse.usage_of(event)
        if usage is not None:
            self.prompt_tokens, self.tokens = usage
        else:
            self.tokens += sse.count_tokens(event)


def new_answer(request: Generation, event_limit: int) -> Answer:
    """The answer that a request of this kind gets."""
    if not request.streamed:
        return WholeAnswer()
    if request.pin is not None:
        return PinnedStream(event_limit)
    return ResumableStream(
        chat=request.is_chat,
        wants_ids=request.wants_ids,
        wants_usage=request.wants_usage,
        event_limit=event_limit,
    )
