"""Reads generation requests: which fields count, their defaults, and what is refused and why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from e2e.engine_simulator.batch import Sampling
from e2e.engine_simulator.vocabulary import SIZE, chat_prompt, tokenise

DEFAULT_COMPLETION_TOKENS: Final = 16
"""max_tokens of /v1/completions when the client gives none; chat may fill the context."""

JsonObject = Mapping[str, Any]


class RequestRefused(Exception):
    """The engine answers with an error. `status` is HTTP, `kind` the error's `type`."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        kind: str = "BadRequestError",
        parameter: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.kind = kind
        self.parameter = parameter

    def to_json(self) -> dict[str, object]:
        """The body of the answer."""
        return {
            "error": {
                "message": self.message,
                "type": self.kind,
                "param": self.parameter,
                "code": self.status,
            }
        }


def json_object(data: bytes) -> JsonObject:
    """The body of a request. Raises RequestRefused."""
    try:
        body = json.loads(data)
    except ValueError as error:
        raise RequestRefused(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestRefused("the body must be a JSON object")
    return body


def injected(status: int) -> RequestRefused:
    """The refusal of a request on purpose."""
    kinds = {429: "TooManyRequestsError", 503: "ServiceUnavailableError"}
    kind = kinds.get(status, "InternalServerError")
    return RequestRefused("injected fault", status=status, kind=kind)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A validated request of either endpoint."""

    chat: bool
    prompt: list[int]
    sampling: Sampling
    stream: bool
    return_token_ids: bool
    include_usage: bool
    continuous_usage: bool
    stop: tuple[str, ...]
    keep_stop: bool
    """Whether the stop string or token stays in the text."""
    cache_salt: str


def parse_generation(
    body: JsonObject, *, chat: bool, model: str, max_length: int
) -> GenerationRequest:
    """Read the body of /v1/completions or /v1/chat/completions. Raises RequestRefused."""
    check_model(body, model)
    if (body.get("n") or 1) != 1:
        raise RequestRefused("the engine simulator gives one answer per request", parameter="n")
    prompt = prompt_of(body, chat=chat)
    if not prompt:
        raise RequestRefused("The decoder prompt cannot be empty", parameter="prompt")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise RequestRefused("stream_options must be an object", parameter="stream_options")
    include_usage = bool(options.get("include_usage"))
    return GenerationRequest(
        chat=chat,
        prompt=prompt,
        sampling=_sampling(body, chat=chat, prompt_length=len(prompt), max_length=max_length),
        stream=bool(body.get("stream")),
        return_token_ids=bool(body.get("return_token_ids")),
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
        stop=_stop(body),
        keep_stop=bool(body.get("include_stop_str_in_output")),
        cache_salt=str(body.get("cache_salt") or ""),
    )


def check_model(body: JsonObject, model: str) -> None:
    """Refuse a request for another model; one that names none is for this one."""
    wanted = body.get("model")
    if wanted not in (None, "", model):
        raise RequestRefused(
            f"The model `{wanted}` does not exist.",
            status=404,
            kind="NotFoundError",
            parameter="model",
        )


def prompt_of(body: JsonObject, *, chat: bool) -> list[int]:
    """The prompt's ids: by the chat template, from text, or as given. Raises RequestRefused."""
    if chat:
        return chat_prompt(_messages(body))
    prompt = body.get("prompt")
    if isinstance(prompt, str):
        return tokenise(prompt)
    if isinstance(prompt, list) and all(type(number) is int for number in prompt):
        if prompt and not 0 <= min(prompt) <= max(prompt) < SIZE:
            wrong = next(number for number in prompt if not 0 <= number < SIZE)
            raise RequestRefused(f"Token id {wrong} is out of vocabulary", parameter="prompt")
        return prompt
    raise RequestRefused(
        "prompt must be a string or a list of token ids: the engine simulator takes one prompt "
        "per request",
        parameter="prompt",
    )


def _messages(body: JsonObject) -> list[dict[str, str]]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefused("messages must be a list that is not empty", parameter="messages")
    return [_message(message) for message in messages]


def _message(message: object) -> dict[str, str]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise RequestRefused("each message needs a role", parameter="messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(_part(part) for part in content)
    if content is not None and not isinstance(content, str):
        raise RequestRefused("content must be text or a list of parts", parameter="messages")
    return {"role": message["role"], "content": content or ""}


def _part(part: object) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text":
        return str(part.get("text") or "")
    raise RequestRefused("the engine simulator reads text parts only", parameter="messages")


def _sampling(body: JsonObject, *, chat: bool, prompt_length: int, max_length: int) -> Sampling:
    room = max_length - prompt_length
    wanted = _count(body, "max_completion_tokens") if chat else None
    wanted = wanted if wanted is not None else _count(body, "max_tokens")
    if wanted is None:
        wanted = max(room, 1) if chat else DEFAULT_COMPLETION_TOKENS
    if wanted < 1:
        raise RequestRefused(
            f"max_tokens must be at least 1, got {wanted}.", parameter="max_tokens"
        )
    if wanted > room:
        raise RequestRefused(
            f"This model's maximum context length is {max_length} tokens. However, you requested "
            f"{wanted} output tokens and your prompt contains {prompt_length} input tokens, for a "
            f"total of {prompt_length + wanted} tokens. Please reduce the length of the input "
            "prompt or the number of requested output tokens.",
            parameter="input_tokens",
        )
    least = _count(body, "min_tokens") or 0
    if least < 0 or least > wanted:
        raise RequestRefused(
            f"min_tokens must be less than or equal to max_tokens={wanted}, got {least}.",
            parameter="min_tokens",
        )
    stop_ids = body.get("stop_token_ids") or []
    if not isinstance(stop_ids, list) or not all(type(number) is int for number in stop_ids):
        raise RequestRefused("stop_token_ids must be token ids", parameter="stop_token_ids")
    return Sampling(
        max_tokens=wanted,
        min_tokens=least,
        ignore_eos=bool(body.get("ignore_eos")),
        stop_ids=frozenset(stop_ids),
    )


def _count(body: JsonObject, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int:
        raise RequestRefused(f"{name} must be a whole number, not {value!r}", parameter=name)
    return value


def _stop(body: JsonObject) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, list | tuple) or not all(
        isinstance(text, str) and text for text in texts
    ):
        raise RequestRefused("stop must be a string or a list of strings", parameter="stop")
    return tuple(texts)
