"""Turns the tokens of one sequence into what clients of APIs with typed events read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from e2e.engine_simulator import sse
from e2e.engine_simulator.api_request import GenerationRequest
from e2e.engine_simulator.batch import LiveSequence
from e2e.engine_simulator.exchange import Exchange
from e2e.engine_simulator.stop_strings import StopFinder
from e2e.engine_simulator.vocabulary import END_OF_TEXT, Detokeniser


@dataclass(frozen=True, slots=True)
class End:
    """How an answer ended, and what it cost in tokens."""

    finish: str
    """`length` or `stop`."""
    stop_string: str | None
    prompt_tokens: int
    cached_tokens: int
    tokens: int


class Writer(Protocol):
    """One API's way to write an answer. Each event is bytes, with the empty line that ends it."""

    def accepted(self) -> bytes:
        """Events before any token."""

    def text(self, text: str) -> bytes:
        """Events for tokens; `text` is empty while it is held back."""

    def ended(self, end: End) -> bytes:
        """Events after the last text."""

    def whole(self, text: str, end: End) -> dict[str, Any]:
        """The body of an unstreamed answer."""


class TypedAnswer:
    """One answer, streamed or not."""

    def __init__(
        self,
        request: GenerationRequest,
        sequence: LiveSequence,
        exchange: Exchange,
        writer: Writer,
        stop: Callable[[], None],
        strike_reset: Callable[[int], bool],
    ) -> None:
        self._stream = request.stream
        self._sequence = sequence
        self._exchange = exchange
        self._writer = writer
        self._stop_engine = stop
        self._strike_reset = strike_reset
        self._detokeniser = Detokeniser(request.prompt)
        self._stops = StopFinder(request.stop, keep=False) if request.stop else None
        self._tokens = 0
        self._text = ""
        """Text of an unstreamed answer, or what is held for a client that reads slowly."""
        self._unsent = False

    def accept(self) -> None:
        """Write what comes before the tokens."""
        if self._stream:
            self._send(self._writer.accepted())

    def token(self, number: int, finish_reason: str | None) -> None:
        """One more id."""
        self._tokens += 1
        silent = finish_reason == "stop" and number == END_OF_TEXT
        finish, stop_string = finish_reason, None
        text = "" if silent else self._detokeniser.step(number)
        if self._stops is not None:
            text, stop_string = self._stops.feed(text)
            if stop_string is not None:
                finish = "stop"
                if finish_reason is None:
                    self._stop_engine()
            elif finish is not None:
                text += self._stops.flush()
        self._text += text
        self._unsent = True
        if finish is not None:
            self._end(finish, stop_string)
        elif self._stream and not self._exchange.paused:
            self.resumed()
        if self._stream and self._strike_reset(self._tokens):
            self._exchange.reset()

    def resumed(self) -> None:
        """The client reads again: send what was held for it."""
        if self._stream and self._unsent:
            self._unsent = False
            text, self._text = self._text, ""
            self._send(self._writer.text(text))

    def _end(self, finish: str, stop_string: str | None) -> None:
        sequence = self._sequence
        end = End(finish, stop_string, sequence.prompt_length, sequence.cached_tokens, self._tokens)
        if self._stream:
            self.resumed()
            self._exchange.end_chunks(sse.chunk(self._writer.ended(end)))
        else:
            self._exchange.send_json(sse.json_bytes(self._writer.whole(self._text, end)))

    def _send(self, events: bytes) -> None:
        if events:
            self._exchange.send_chunks(sse.chunk(events))


def typed_event(name: str, data: dict[str, Any]) -> bytes:
    """One event with its name."""
    return b"event: " + name.encode() + b"\ndata: " + sse.json_bytes(data) + b"\n\n"
