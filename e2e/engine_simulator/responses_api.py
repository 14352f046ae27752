"""The Responses API as vLLM 0.32 serves it: one message of text; nothing is stored."""

import time
from collections.abc import Mapping
from secrets import token_hex
from typing import Any

from e2e.engine_simulator.refusals import JsonObject, RequestRefused
from e2e.engine_simulator.typed_answer import End, typed_event


def chat_body(body: JsonObject) -> dict[str, Any]:
    """The chat that a request asks for. Raises RequestRefused."""
    if body.get("previous_response_id") is not None:
        raise RequestRefused(
            f"Response with id '{body['previous_response_id']}' not found.",
            status=404,
            kind="invalid_request_error",
            parameter="response_id",
        )
    if body.get("background"):
        raise RequestRefused(
            "the engine stores no responses, so it cannot answer in the background",
            kind="invalid_request_error",
            parameter="background",
        )
    passed = ("model", "stream", "cache_salt", "stop", "stop_token_ids", "ignore_eos")
    return {
        **{name: body[name] for name in passed if name in body},
        "messages": chat_messages(body),
        "max_completion_tokens": body.get("max_output_tokens"),
    }


def chat_messages(body: JsonObject) -> list[dict[str, Any]]:
    """The conversation in `instructions` and `input`. Raises RequestRefused."""
    given = body.get("input")
    messages = []
    if body.get("instructions"):
        messages.append({"role": "system", "content": body["instructions"]})
    if isinstance(given, str):
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise RequestRefused("input must be text or a list of items", parameter="input")
    return [*messages, *map(_message, given)]


def _message(item: object) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise RequestRefused("each item of input must be an object", parameter="input")
    if item.get("type") == "function_call_output":
        return {"role": "tool", "content": item.get("output")}
    content = item.get("content")
    if isinstance(content, list):
        content = [_part(part) for part in content]
    return {"role": item.get("role"), "content": content}


def _part(part: object) -> object:
    texts = ("input_text", "output_text", "text")
    if isinstance(part, Mapping) and part.get("type") in texts:
        return {"type": "text", "text": part.get("text")}
    return part


class ResponsesWriter:
    """Writes one response."""

    def __init__(self, body: JsonObject, model: str, max_tokens: int) -> None:
        self._body = body
        self._model = model
        self._max_tokens = max_tokens
        self._created = int(time.time())
        self._id = body.get("request_id") or f"resp_{token_hex(16)}"
        self._item = f"msg_{token_hex(16)}"
        self._number = 0
        self._text = ""
        self._open = False

    def accepted(self) -> bytes:
        response = self._response("in_progress", [], None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def text(self, text: str) -> bytes:
        if not text:
            return b""
        opening = b""
        if not self._open:
            self._open = True
            item = self._message("in_progress", [])
            part = {**_output_text(""), "logprobs": []}
            opening = self._event("response.output_item.added", output_index=0, item=item)
            opening += self._event("response.content_part.added", **self._place(), part=part)
        self._text += text
        return opening + self._event(
            "response.output_text.delta", **self._place(), delta=text, logprobs=[]
        )

    def ended(self, end: End) -> bytes:
        closing = b""
        output = []
        if self._open:
            part = _output_text(self._text)
            output = [self._message("completed", [part])]
            closing = self._event(
                "response.output_text.done", **self._place(), text=self._text, logprobs=[]
            )
            closing += self._event("response.content_part.done", **self._place(), part=part)
            closing += self._event("response.output_item.done", output_index=0, item=output[0])
        response = self._response(_status(end), output, end)
        return closing + self._event("response.completed", response=response)

    def whole(self, text: str, end: End) -> dict[str, Any]:
        parts = [_output_text(text)] if text else []
        return self._response(_status(end), [self._message("completed", parts)], end)

    def _event(self, name: str, **fields: Any) -> bytes:
        number, self._number = self._number, self._number + 1
        return typed_event(name, {"type": name, "sequence_number": number, **fields})

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._item, "output_index": 0, "content_index": 0}

    def _message(self, status: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._item,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": parts,
        }

    def _response(
        self, status: str, output: list[dict[str, Any]], end: End | None
    ) -> dict[str, Any]:
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": self._id,
            "created_at": self._created,
            "incomplete_details": incomplete,
            "instructions": self._body.get("instructions"),
            "metadata": self._body.get("metadata"),
            "model": self._model,
            "object": "response",
            "output": output,
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "none",
            "tools": [],
            "top_p": 1.0,
            "background": False,
            "max_output_tokens": self._max_tokens,
            "previous_response_id": None,
            "service_tier": "auto",
            "status": status,
            "truncation": "disabled",
            "usage": None if end is None else _usage(end),
            "user": self._body.get("user"),
            "kv_transfer_params": None,
        }


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": None}


def _status(end: End) -> str:
    return "incomplete" if end.finish == "length" else "completed"


def _usage(end: End) -> dict[str, Any]:
    return {
        "input_tokens": end.prompt_tokens,
        "input_tokens_details": {"cached_tokens": end.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": end.tokens,
        "output_tokens_details": {"reasoning_tokens": 0, "tool_output_tokens": 0},
        "total_tokens": end.prompt_tokens + end.tokens,
    }
