"""Reads generation requests: which fields count, their defaults, and what is refused and why."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from e2e.engine_simulator.batch import Sampling
from e2e.engine_simulator.next_token import state_of
from e2e.engine_simulator.refusals import JsonObject, RequestRefused, malformed
from e2e.engine_simulator.sampling_fields import called_tool, wishes_of
from e2e.engine_simulator.vocabulary import (
    SIZE,
    START_OF_MESSAGE,
    chat_prompt,
    detokenise,
    tokenise,
)

DEFAULT_COMPLETION_TOKENS: Final = 16
"""max_tokens of /v1/completions when the client gives none; chat may fill the context."""
MOST_LOGPROBS: Final = 20
_UNSEEDED: Final = 1_000_003
"""The seed of the second choice of a request without one; the next ones follow."""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """A validated request of either endpoint: one of its choices."""

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
    index: int = 0
    first_of_prompt: bool = True
    """Whether it is the first choice of its prompt."""
    logprobs: int | None = None
    """How many alternatives each token comes with."""
    echoed: str | None = None
    """The prompt's text, where it is to stand before the answer."""
    prompt_only: bool = False
    """Whether nothing but the prompt is wanted."""
    tool: str | None = None
    """The function that is called instead of an answer in text."""
    call_is_named: bool = False
    """Whether the client named that function: such an answer ends as any other."""


def parse_generation(
    body: JsonObject, *, chat: bool, model: str, max_length: int
) -> GenerationRequest:
    """A body that asks for one answer. Raises RequestRefused."""
    choices = parse_choices(body, chat=chat, model=model, max_length=max_length)
    if len(choices) > 1:
        raise RequestRefused("this path gives one answer per request", parameter="n")
    return choices[0]


def parse_choices(
    body: JsonObject, *, chat: bool, model: str, max_length: int
) -> list[GenerationRequest]:
    """Read the body of /v1/completions or /v1/chat/completions: a request for each choice, those
    of one prompt side by side. Raises RequestRefused."""
    check_model(body, model)
    if not chat and "n" in body and body["n"] is None:
        # Of all fields that are off by null, vLLM takes this one for chats alone.
        raise malformed("n must be a whole number, got null", "n")
    count = _choices(body)
    prompts = [prompt_of(body, chat=True)] if chat else prompts_of(body)
    requests = [_one(body, prompt, chat=chat, max_length=max_length) for prompt in prompts]
    return [
        replace(
            request,
            index=place * count + number,
            first_of_prompt=not number,
            sampling=_reseeded(request.sampling, number),
        )
        for place, request in enumerate(requests)
        for number in range(count)
    ]


def _one(body: JsonObject, prompt: list[int], *, chat: bool, max_length: int) -> GenerationRequest:
    if not prompt:
        raise RequestRefused("The decoder prompt cannot be empty", parameter="prompt")
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise RequestRefused("stream_options must be an object", parameter="stream_options")
    if options and not body.get("stream"):
        raise RequestRefused(
            "Stream options can only be defined when `stream=True`.", parameter="stream_options"
        )
    include_usage = bool(options.get("include_usage"))
    state = state_of(prompt)
    tool = called_tool(body, state) if chat else None
    echo = bool(body.get("echo")) and not chat
    prompt_only = echo and body.get("max_tokens") == 0
    limits = {**body, "max_tokens": 1} if prompt_only else body
    sampling = _sampling(limits, chat=chat, prompt_length=len(prompt), max_length=max_length)
    with_ids = bool(body.get("return_token_ids"))
    return GenerationRequest(
        chat=chat,
        prompt=prompt,
        sampling=replace(sampling, wishes=wishes_of(body, tool, b"%d" % state)),
        stream=bool(body.get("stream")),
        return_token_ids=with_ids,
        include_usage=include_usage,
        continuous_usage=include_usage and bool(options.get("continuous_usage_stats")),
        stop=_stop(body),
        keep_stop=bool(body.get("include_stop_str_in_output")),
        cache_salt=str(body.get("cache_salt") or ""),
        logprobs=_logprobs(body, chat=chat),
        echoed=("" if with_ids else detokenise(prompt)) if echo else None,
        prompt_only=prompt_only,
        tool=tool,
        call_is_named=isinstance(body.get("tool_choice"), Mapping),
    )


def _choices(body: JsonObject) -> int:
    count = _count(body, "n")
    count = 1 if count is None else count
    if count < 1:
        raise RequestRefused(f"n must be at least 1, got {count}.")
    if count > 1 and body.get("temperature") == 0:
        raise RequestRefused(f"n must be 1 when using greedy sampling, got {count}.")
    return count


def _reseeded(sampling: Sampling, number: int) -> Sampling:
    """The sampling of the choice `number` of a prompt."""
    if not number:
        return sampling
    seed = sampling.wishes.seed
    seed = number + (_UNSEEDED if seed is None else seed)
    return replace(sampling, wishes=replace(sampling.wishes, seed=seed))


def _logprobs(body: JsonObject, *, chat: bool) -> int | None:
    if body.get("prompt_logprobs") is not None and body.get("stream"):
        raise RequestRefused(
            "`prompt_logprobs` are not available when `stream=True`.", parameter="prompt_logprobs"
        )
    wanted = _count(body, "top_logprobs" if chat else "logprobs")
    if chat and not body.get("logprobs"):
        if wanted:
            raise RequestRefused(
                "when using `top_logprobs`, `logprobs` must be set to true.",
                parameter="top_logprobs",
            )
        return None
    if wanted is not None and not 0 <= wanted <= MOST_LOGPROBS:
        raise RequestRefused(
            f"Requested sample logprobs of {wanted}, which is greater than max allowed: "
            f"{MOST_LOGPROBS}",
            parameter="logprobs",
        )
    return (wanted or 0) if chat else wanted


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
        return _conversation(body)
    prompts = prompts_of(body)
    if len(prompts) > 1:
        raise RequestRefused("prompt must be one string or list of ids", parameter="prompt")
    return prompts[0]


def prompts_of(body: JsonObject) -> list[list[int]]:
    """The prompts of a completion: a text, ids, or a list of either. Raises RequestRefused."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        return [_prompt(one) for one in prompt]
    return [_prompt(prompt)]


def _prompt(prompt: object) -> list[int]:
    if isinstance(prompt, str):
        return tokenise(prompt)
    if isinstance(prompt, list) and all(type(number) is int for number in prompt):
        if prompt and not 0 <= min(prompt) <= max(prompt) < SIZE:
            wrong = next(number for number in prompt if not 0 <= number < SIZE)
            raise RequestRefused(f"Token id {wrong} is out of vocabulary", parameter="prompt")
        return prompt
    raise RequestRefused(
        "prompt must be a string, a list of token ids, or a list of either", parameter="prompt"
    )


def _conversation(body: JsonObject) -> list[int]:
    messages = _messages(body)
    tools = body.get("tools")
    if tools:
        messages = [{"role": "tools", "content": json.dumps(tools)}, *messages]
    ids = chat_prompt(messages)
    if body.get("add_generation_prompt") is False:
        ids = ids[: len(ids) - ids[::-1].index(START_OF_MESSAGE) - 1]
        if body.get("continue_final_message"):
            ids = ids[:-2]  # The last message is not ended.
    return ids


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
    if wanted > max_length:
        raise RequestRefused(
            f"max_tokens={wanted} cannot be greater than max_model_len={max_length}.",
            parameter="max_tokens",
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
            f"min_tokens must be less than or equal to max_tokens={wanted}, got {least}."
        )
    stop_ids = body.get("stop_token_ids") or []
    if not isinstance(stop_ids, list) or not all(type(number) is int for number in stop_ids):
        raise malformed("stop_token_ids must be token ids", "stop_token_ids")
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
        raise malformed(f"{name} must be a whole number, not {value!r}", name)
    return value


def _stop(body: JsonObject) -> tuple[str, ...]:
    stop = body.get("stop") or ()
    texts = (stop,) if isinstance(stop, str) else stop
    if not isinstance(texts, list | tuple) or not all(
        isinstance(text, str) and text for text in texts
    ):
        raise RequestRefused("stop must be a string or a list of strings, none of them empty")
    return tuple(texts)
