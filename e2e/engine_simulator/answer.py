"""Turns the tokens of one sequence into what its client reads: events, or one JSON body."""

from collections.abc import Callable
from typing import Any, Final, Protocol

from e2e.engine_simulator import sse
from e2e.engine_simulator.api_request import GenerationRequest
from e2e.engine_simulator.batch import LiveSequence
from e2e.engine_simulator.stop_strings import StopFinder
from e2e.engine_simulator.vocabulary import COMPLETE_TEXT, END_OF_TEXT, Detokeniser

_NULL: Final = b"null"


class Exchange(Protocol):
    """The HTTP exchange that an answer is written to."""

    paused: bool
    """Whether the client reads slower than the engine writes."""

    def send_chunks(self, chunks: bytes) -> None:
        """Send chunks of a chunked body."""

    def end_chunks(self, chunks: bytes) -> None:
        """Send the last chunks and end the answer."""

    def send_json(self, body: bytes) -> None:
        """Send the whole answer."""

    def reset(self) -> None:
        """Cut the connection off."""


class _Answer:
    """What both kinds share: text out of ids, stop strings, usage."""

    def __init__(
        self, request: GenerationRequest, sequence: LiveSequence, stop: Callable[[], None]
    ) -> None:
        self._request = request
        self._sequence = sequence
        self._stop_engine = stop
        self._detokeniser = Detokeniser(request.prompt)
        self._stops = StopFinder(request.stop, keep=request.keep_stop) if request.stop else None
        self._generated = 0

    def _text(self, number: int, finish: str | None) -> tuple[str, str | None, int | str | None]:
        """(text, finish reason, stop reason) with one more id; may end the sequence."""
        stop_reason = self._sequence.stop_reason
        hidden = finish == "stop" and (number == END_OF_TEXT or not self._request.keep_stop)
        text = "" if hidden else self._detokeniser.step(number)
        if self._stops is None:
            return text, finish, stop_reason
        text, stop = self._stops.feed(text)
        if stop is not None:
            if finish is None:
                self._stop_engine()
            return text, "stop", stop
        return text + (self._stops.flush() if finish else ""), finish, stop_reason

    def _usage(self) -> dict[str, Any]:
        prompt = self._sequence.prompt_length
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + self._generated,
            "completion_tokens": self._generated,
            "prompt_tokens_details": {"cached_tokens": self._sequence.cached_tokens},
        }


class StreamedAnswer(_Answer):
    """Server-sent events, one per token; several tokens share one while the client is slow."""

    def __init__(
        self,
        request: GenerationRequest,
        sequence: LiveSequence,
        exchange: Exchange,
        template: sse.EventTemplate,
        stop: Callable[[], None],
        *,
        coalesce_percent: int,
        strike_reset: Callable[[int], bool],
    ) -> None:
        super().__init__(request, sequence, stop)
        self._exchange = exchange
        self._template = template
        self._coalesce = coalesce_percent
        self._strike_reset = strike_reset
        self._with_ids = request.return_token_ids
        self._held_ids: list[int] = []
        self._held_text = ""
        self._first = True
        self._plain = self._stops is None and not request.continuous_usage

    def token(self, number: int, finish_reason: str | None) -> None:
        """Send one more id, unless it shares the event of the next one."""
        self._generated += 1
        if (
            self._plain
            and finish_reason is None
            and not self._held_ids
            and not self._first
            and not self._holds()
        ):
            self._send_plain(number)
        else:
            self._send_any(number, finish_reason)
        if self._strike_reset(self._generated):
            self._exchange.reset()

    def resumed(self) -> None:
        """The client reads again: send what was held for it."""
        if self._held_ids:
            self._flush(None, None)

    def _holds(self) -> bool:
        return self._exchange.paused or self._sequence.state % 100 < self._coalesce

    def _send_plain(self, number: int) -> None:
        """The path of nearly every token."""
        if self._detokeniser.holds_back or COMPLETE_TEXT[number] is None:
            text = sse.json_text(self._detokeniser.step(number))
        else:
            text = sse.JSON_TEXT[number]
        ids = b"[%d]" % number if self._with_ids else _NULL
        self._exchange.send_chunks(self._template.token(text, ids, b""))

    def _send_any(self, number: int, finish: str | None) -> None:
        text, finish, stop_reason = self._text(number, finish)
        self._held_ids.append(number)
        self._held_text += text
        if finish is not None or self._first or not self._holds():
            self._flush(finish, stop_reason)

    def _flush(self, finish: str | None, stop_reason: int | str | None) -> None:
        usage = self._continuous_usage()
        prompt_ids = _NULL
        chunks = b""
        if self._first and self._with_ids:
            prompt_ids = sse.ids_json(self._request.prompt)
        if self._first and self._request.chat:
            chunks = self._template.role(prompt_ids, usage)
        chunks += self._template.special(
            sse.json_text(self._held_text),
            sse.ids_json(self._held_ids) if self._with_ids else _NULL,
            usage,
            finish=finish,
            stop_reason=stop_reason,
            prompt_ids=prompt_ids,
        )
        self._first = False
        self._held_ids, self._held_text = [], ""
        if finish is None:
            self._exchange.send_chunks(chunks)
            return
        if self._request.include_usage:
            chunks += self._template.usage(b',"usage":' + sse.json_bytes(self._usage()))
        self._exchange.end_chunks(chunks + sse.chunk(sse.DONE))

    def _continuous_usage(self) -> bytes:
        if not self._request.continuous_usage:
            return b""
        prompt, done = self._sequence.prompt_length, self._generated
        return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
            prompt,
            prompt + done,
            done,
        )


class WholeAnswer(_Answer):
    """One JSON body when the sequence has ended."""

    def __init__(
        self,
        request: GenerationRequest,
        sequence: LiveSequence,
        exchange: Exchange,
        stop: Callable[[], None],
        *,
        identity: str,
        created: int,
        model: str,
    ) -> None:
        super().__init__(request, sequence, stop)
        self._exchange = exchange
        self._identity = identity
        self._created = created
        self._model = model
        self._ids: list[int] = []
        self._texts: list[str] = []

    def resumed(self) -> None:
        """Nothing is held for a client that reads slowly."""

    def token(self, number: int, finish_reason: str | None) -> None:
        """Keep one more id; answer after the last one."""
        self._generated += 1
        text, finish, stop_reason = self._text(number, finish_reason)
        self._ids.append(number)
        self._texts.append(text)
        if finish is not None:
            self._exchange.send_json(sse.json_bytes(self._body(finish, stop_reason)))

    def _body(self, finish: str, stop_reason: int | str | None) -> dict[str, Any]:
        chat, with_ids = self._request.chat, self._request.return_token_ids
        prompt_ids = self._request.prompt if with_ids else None
        text = "".join(self._texts)
        choice: dict[str, Any] = {"index": 0}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        choice |= {
            "logprobs": None,
            "finish_reason": finish,
            "stop_reason": stop_reason,
            "token_ids": self._ids if with_ids else None,
        }
        if not chat:
            choice["prompt_token_ids"] = prompt_ids
        return {
            "id": self._identity,
            "object": "chat.completion" if chat else "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "usage": self._usage(),
            "kv_transfer_params": None,
            **({"prompt_token_ids": prompt_ids} if chat else {}),
        }
