"""Turns the tokens of one choice into what its client reads: events, or a part of a JSON body."""

from collections.abc import Callable
from secrets import token_hex
from typing import Any, Final

from e2e.engine_simulator import logprobs, sse
from e2e.engine_simulator.api_request import GenerationRequest
from e2e.engine_simulator.batch import LiveSequence
from e2e.engine_simulator.endings import BodyEnd, StreamEnd
from e2e.engine_simulator.stop_strings import StopFinder
from e2e.engine_simulator.vocabulary import COMPLETE_TEXT, END_OF_TEXT, Detokeniser

_NULL: Final = b"null"
_UNUSED: Final = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
"""Parts of a message that no answer has here."""


class _Answer:
    """What both kinds share: text out of ids, stop strings, log probabilities, ends."""

    def __init__(
        self, request: GenerationRequest, sequence: LiveSequence, stop: Callable[[], None]
    ) -> None:
        self._request = request
        self._sequence = sequence
        self._stop_engine = stop
        self._detokeniser = Detokeniser(request.prompt)
        self._stops = StopFinder(request.stop, keep=request.keep_stop) if request.stop else None
        self._generated = 0
        self._ids: list[int] = []
        self._drawn: list[logprobs.Drawn] = []
        """The same with the states after them, where log probabilities are wanted."""

    def _keep(self, number: int) -> None:
        self._generated += 1
        self._ids.append(number)
        if self._request.logprobs is not None:
            self._drawn.append((number, self._sequence.state))

    def _text(self, number: int, finish: str | None) -> tuple[str, str | None, int | str | None]:
        """(text, finish reason, stop reason) with one more id; may end the sequence."""
        stop_reason = self._sequence.stop_reason
        hidden = finish == "stop" and (number == END_OF_TEXT or not self._request.keep_stop)
        text = "" if hidden or self._request.prompt_only else self._detokeniser.step(number)
        if self._stops is None:
            return text, self._reason(finish), stop_reason
        text, stop = self._stops.feed(text)
        if stop is not None:
            if finish is None:
                self._stop_engine()
            return text, "stop", stop
        return text + (self._stops.flush() if finish else ""), finish, stop_reason

    def _reason(self, finish: str | None) -> str | None:
        calls = self._request.tool is not None and not self._request.call_is_named
        return "tool_calls" if finish == "stop" and calls else finish

    def _logprobs(self, offset: int) -> dict[str, Any] | None:
        most = self._request.logprobs
        if most is None:
            return None
        drawn, self._drawn = self._drawn, []
        if self._request.chat:
            return logprobs.of_chat(drawn, most)
        return logprobs.of_completion(drawn, most, offset)


class StreamedAnswer(_Answer):
    """Server-sent events, one per token; several tokens share one while the client is slow."""

    def __init__(
        self,
        request: GenerationRequest,
        sequence: LiveSequence,
        end: StreamEnd,
        template: sse.EventTemplate,
        stop: Callable[[], None],
        *,
        coalesce_percent: int,
        strike_reset: Callable[[int], bool],
    ) -> None:
        super().__init__(request, sequence, stop)
        self._end = end
        self._exchange = end.exchange
        self._template = template
        self._coalesce = coalesce_percent
        self._strike_reset = strike_reset
        self._with_ids = request.return_token_ids
        self._held_text = request.echoed or ""
        self._text_length = 0
        self._first = True
        self._struck = False
        """Whether the connection is reset with this token, though it may be the last one."""
        self._plain = (
            self._stops is None and not request.continuous_usage and request.logprobs is None
        )

    def token(self, number: int, finish_reason: str | None) -> None:
        """Send one more id, unless it shares the event of the next one."""
        self._struck = self._strike_reset(self._generated + 1)
        if (
            self._plain
            and finish_reason is None
            and not self._ids
            and not self._first
            and not self._holds()
        ):
            self._generated += 1
            self._send_plain(number)
        else:
            self._keep(number)
            self._send_any(number, finish_reason)
        if self._struck:
            self._exchange.reset()

    def resumed(self) -> None:
        """The client reads again: send what was held for it."""
        if self._ids:
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
        self._held_text += text
        if finish is not None or self._first or not self._holds():
            self._flush(finish, stop_reason)

    def _flush(self, finish: str | None, stop_reason: int | str | None) -> None:
        request, usage = self._request, self._continuous_usage()
        prompt_ids = _NULL
        if self._first and (self._with_ids or request.echoed is not None):
            prompt_ids = sse.ids_json(request.prompt)
        chunks = self._opening(prompt_ids, usage) if self._first else b""
        rest = usage if finish is None else usage + self._end.fingerprint
        chunks += self._template.special(
            sse.json_text(self._held_text),
            sse.ids_json(self._ids) if self._with_ids else _NULL,
            rest,
            finish=finish,
            stop_reason=stop_reason,
            prompt_ids=prompt_ids,
            logprobs=sse.json_bytes(self._logprobs(self._text_length)),
        )
        self._first = False
        self._text_length += len(self._held_text)
        self._ids, self._held_text = [], ""
        if finish is None or self._struck:
            self._exchange.send_chunks(chunks)
            return
        self._end.close(
            chunks,
            self._sequence.prompt_length,
            self._sequence.cached_tokens,
            self._generated,
            first_of_prompt=request.first_of_prompt,
        )

    def _opening(self, prompt_ids: bytes, usage: bytes) -> bytes:
        request = self._request
        if not request.chat:
            return b""
        chunks = self._template.role(prompt_ids, usage)
        if request.tool is not None:
            chunks += self._template.call(tool_call_id(), request.tool, usage)
        return chunks

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
    """A choice of one JSON body, when its sequence has ended."""

    def __init__(
        self,
        request: GenerationRequest,
        sequence: LiveSequence,
        end: BodyEnd,
        stop: Callable[[], None],
    ) -> None:
        super().__init__(request, sequence, stop)
        self._end = end
        self._texts: list[str] = [request.echoed or ""]

    def resumed(self) -> None:
        """Nothing is held for a client that reads slowly."""

    def token(self, number: int, finish_reason: str | None) -> None:
        """Keep one more id; the choice is complete after the last one."""
        self._keep(number)
        text, finish, stop_reason = self._text(number, finish_reason)
        self._texts.append(text)
        if finish is None:
            return
        request = self._request
        prompt_ids = request.prompt if request.return_token_ids else None
        self._end.close(
            self._choice(finish, stop_reason, prompt_ids),
            self._sequence.prompt_length,
            self._sequence.cached_tokens,
            self._generated,
            first_of_prompt=request.first_of_prompt,
            extra=_of_prompt(prompt_ids) if request.chat else {},
        )

    def _choice(
        self, finish: str, stop_reason: int | str | None, prompt_ids: list[int] | None
    ) -> dict[str, Any]:
        request = self._request
        choice: dict[str, Any] = {"index": request.index}
        choice |= {"message": self._message()} if request.chat else {"text": "".join(self._texts)}
        choice |= {
            "logprobs": self._logprobs(0),
            "finish_reason": finish,
            "stop_reason": stop_reason,
            "token_ids": self._ids if request.return_token_ids else None,
        }
        if not request.chat:
            choice |= {"prompt_logprobs": None, "prompt_token_ids": prompt_ids}
        return {**choice, "routed_experts": None}

    def _message(self) -> dict[str, Any]:
        text, tool = "".join(self._texts), self._request.tool
        if tool is None:
            return {"role": "assistant", "content": text, **_UNUSED}
        call = {"id": tool_call_id(), "type": "function"}
        call_of = {**call, "function": {"name": tool, "arguments": text}}
        return {"role": "assistant", "content": None, "tool_calls": [call_of]}


def _of_prompt(ids: list[int] | None) -> dict[str, Any]:
    """What the body of a chat tells of its prompt."""
    return {"prompt_logprobs": None, "prompt_token_ids": ids, "prompt_text": None}


def tool_call_id() -> str:
    """A new id of a call, as the engine makes them."""
    return "chatcmpl-tool-" + token_hex(16)
