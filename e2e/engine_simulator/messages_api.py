"""The Messages API of Anthropic as vLLM 0.32 serves it, on top of a chat."""

from collections.abc import Mapping
from typing import Any, Final

from e2e.engine_simulator.refusals import JsonObject, RequestRefused
from e2e.engine_simulator.typed_answer import End, typed_event

_REASONS: Final = {"length": "max_tokens", "stop": "end_turn"}


def chat_body(body: JsonObject) -> dict[str, Any]:
    """The chat that a request asks for. Raises RequestRefused."""
    if not body.get("model"):
        raise RequestRefused("model is required", parameter="model")
    if body.get("max_tokens") is None:
        raise RequestRefused("max_tokens is required", parameter="max_tokens")
    passed = ("model", "stream", "cache_salt")
    return {
        **{name: body[name] for name in passed if name in body},
        "messages": chat_messages(body),
        "max_completion_tokens": body["max_tokens"],
        "stop": body.get("stop_sequences"),
    }


def chat_messages(body: JsonObject) -> list[dict[str, Any]]:
    """The conversation in `system` and `messages`. Raises RequestRefused."""
    given = body.get("messages")
    if not isinstance(given, list) or not given:
        raise RequestRefused("messages must be a list that is not empty", parameter="messages")
    system = body.get("system") or ""
    if isinstance(system, list):
        system = "".join(str(block.get("text") or "") for block in system)
    messages = [{"role": "system", "content": system}] if system else []
    for message in given:
        messages += _turn(message)
    return messages


def _turn(message: object) -> list[dict[str, Any]]:
    """One message; results of tools become messages of their own."""
    if not isinstance(message, Mapping):
        raise RequestRefused("each message must be an object", parameter="messages")
    content = message.get("content")
    if not isinstance(content, list):
        return [{"role": message.get("role"), "content": content}]
    results = [block for block in content if block.get("type") == "tool_result"]
    texts = [block for block in content if block.get("type") == "text"]
    turn = [{"role": "tool", "content": str(block.get("content") or "")} for block in results]
    return [*turn, {"role": message.get("role"), "content": texts}] if texts else turn


def count_answer(tokens: int) -> dict[str, Any]:
    """The answer of `/v1/messages/count_tokens`."""
    return {
        "input_tokens": tokens,
        "context_management": {"original_input_tokens": tokens},
    }


def error_body(refusal: RequestRefused) -> dict[str, Any]:
    """A refusal as clients of this API read it."""
    return {"type": "error", "error": {"type": refusal.kind, "message": refusal.message}}


class MessagesWriter:
    """Writes one message."""

    def __init__(self, identity: str, model: str, prompt_tokens: int) -> None:
        self._identity = identity
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._started = False
        self._open = False

    def accepted(self) -> bytes:
        return b""

    def text(self, text: str) -> bytes:
        events = self._start()
        if not text:
            return events
        if not self._open:
            self._open = True
            block = {"type": "text", "text": ""}
            events += _event("content_block_start", content_block=block, index=0)
        delta = {"type": "text_delta", "text": text}
        return events + _event("content_block_delta", delta=delta, index=0)

    def ended(self, end: End) -> bytes:
        events = self._start()
        if self._open:
            events += _event("content_block_stop", index=0)
        reason, stop = _reason(end)
        delta = {"stop_reason": reason, "stop_sequence": stop}
        events += _event("message_delta", delta=delta, usage=_usage(end))
        return events + _event("message_stop")

    def whole(self, text: str, end: End) -> dict[str, Any]:
        reason, stop = _reason(end)
        ended = {"stop_reason": reason, "stop_sequence": stop}
        return {
            "id": self._identity,
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": text}],
            "model": self._model,
            **{name: value for name, value in ended.items() if value is not None},
            "usage": _usage(end),
        }

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        message: dict[str, Any] = {
            "id": self._identity,
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._model,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._prompt_tokens, "output_tokens": 0},
        }
        return _event("message_start", message=message)


def _event(name: str, **fields: Any) -> bytes:
    return typed_event(name, {"type": name, **fields})


def _reason(end: End) -> tuple[str, str | None]:
    """(stop_reason, stop_sequence)."""
    if end.stop_string is not None:
        return "stop_sequence", end.stop_string
    return _REASONS[end.finish], None


def _usage(end: End) -> dict[str, int]:
    return {
        "input_tokens": end.prompt_tokens - end.cached_tokens,
        "output_tokens": end.tokens,
        "cache_read_input_tokens": end.cached_tokens,
    }
