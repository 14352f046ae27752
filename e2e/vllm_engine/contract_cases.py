"""The requests by which the simulator's answers are held against those of the engine."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from e2e.continuity_suite.cases import CHAT, COMPLETIONS

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request. `body` is sent as it stands if it is bytes; None: GET."""

    name: str
    path: str
    body: Fields | bytes | None


_GREEDY: Final = {"temperature": 0, "max_tokens": 60, "ignore_eos": True}
_IDS: Final = {"return_token_ids": True}
_USAGE: Final = {"stream_options": {"include_usage": True}}
_EVERY: Final = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_PROMPT: Final = {"prompt": [300, 301, 302, 303]}
_SAID: Final = {"messages": [{"role": "user", "content": "the river"}]}
_TOOL: Final = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
}
_ANSWERED: Final[Mapping[str, Fields]] = {
    "plain": {},
    "with ids": _IDS,
    "of one token": {"max_tokens": 1},
    "with two choices": {"n": 2, "temperature": 1.0, "seed": 3},
    "with a stop string": {"stop": ["e"], "max_tokens": 200},
    "with a regular expression": {
        "structured_outputs": {"regex": "[a-c]{5}"}, "ignore_eos": False, "max_tokens": 40,
    },
}  # fmt: skip
_WHOLE: Final[Mapping[str, Fields]] = {
    "with a stop token": {"stop_token_ids": list(range(300, 512)), "max_tokens": 200},
}
_STREAMED: Final[Mapping[str, Fields]] = {
    "with usage": _USAGE,
    "with usage in every chunk": _EVERY,
    "with ids and usage": {**_IDS, **_USAGE},
}
_OF_COMPLETIONS: Final[Mapping[str, Fields]] = {
    "of text": {"prompt": "the river"},
    "of two prompts": {"prompt": ["the river", "a hill"]},
    "with log probabilities": {"logprobs": 2},
    "with an echo": {"echo": True},
    "with an echo and ids": {"echo": True, **_IDS},
}
_OF_CHATS: Final[Mapping[str, Fields]] = {
    "with log probabilities": {"logprobs": True, "top_logprobs": 2},
    "with a tool that must be called": {"tools": [_TOOL], "tool_choice": "required"},
    "with a tool that is named": {
        "tools": [_TOOL],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    },
    "of a message in parts": {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "the river"}]}]
    },
}
_REFUSED: Final[Mapping[str, Fields]] = {
    "another model": {"model": "no-such-model"},
    "max_tokens 0": {"max_tokens": 0},
    "negative max_tokens": {"max_tokens": -1},
    "max_tokens beyond the context": {"max_tokens": 10**6},
    "max_tokens that is a text": {"max_tokens": "many"},
    "a temperature below 0": {"temperature": -1},
    "a temperature that is a text": {"temperature": "hot"},
    "top_p 0": {"top_p": 0},
    "top_p above 1": {"top_p": 1.5},
    "min_tokens above max_tokens": {"min_tokens": 61},
    "negative min_tokens": {"min_tokens": -1},
    "n 0": {"n": 0},
    "several greedy answers": {"n": 2},
    "an empty stop string": {"stop": [""]},
    "a penalty out of range": {"presence_penalty": 3},
    "a bias that is a list": {"logit_bias": [1]},
    "stop_token_ids that are a number": {"stop_token_ids": 5},
    "stream_options without a stream": _USAGE,
    "a stream that is a text": {"stream": "perhaps"},
}
_PATHS: Final = (
    Asked("the models", "/v1/models", None),
    Asked("the health", "/health", None),
    Asked("a path that nobody serves", "/v1/nothing", None),
    Asked("completions with GET", COMPLETIONS, None),
)


def contract_cases(model: str) -> Iterator[Asked]:
    """All of them."""
    for chat in (False, True):
        kind, path = ("chat", CHAT) if chat else ("completion", COMPLETIONS)
        base = {"model": model, **_GREEDY, **(_SAID if chat else _PROMPT)}
        answered = {**_ANSWERED, **(_OF_CHATS if chat else _OF_COMPLETIONS)}
        for name, fields in {**answered, **_WHOLE}.items():
            yield Asked(f"a {kind} {name}", path, {**base, **fields})
        for name, fields in {**answered, **_STREAMED}.items():
            yield Asked(f"a streamed {kind} {name}", path, {**base, "stream": True, **fields})
        for name, fields in _REFUSED.items():
            yield Asked(f"a {kind} with {name}", path, {**base, **fields})
        yield Asked(f"a streamed {kind} with max_tokens 0", path,
                    {**base, "stream": True, "max_tokens": 0})  # fmt: skip
        yield from _broken(kind, path, base)
    yield from _others(model)
    yield from _PATHS


def _broken(kind: str, path: str, base: Fields) -> Iterator[Asked]:
    whole = json.dumps(base).encode()
    yield Asked(f"a {kind} that is cut off", path, whole[:-5])
    yield Asked(f"a {kind} that is a list", path, b"[1]")
    yield Asked(f"a {kind} that is empty", path, b"")
    name = "messages" if kind == "chat" else "prompt"
    without = {key: value for key, value in base.items() if key != name}
    yield Asked(f"a {kind} without {name}", path, without)
    yield Asked(f"a {kind} with empty {name}", path, {**base, name: []})
    yield Asked(f"a {kind} with {name} that is a number", path, {**base, name: 5})


def _others(model: str) -> Iterator[Asked]:
    base = {"model": model}
    yield Asked("tokens of a text", "/tokenize", {**base, "prompt": "the river"})
    yield Asked("tokens of a chat", "/tokenize", {**base, **_SAID})
    yield Asked("tokens of nothing", "/tokenize", base)
    yield Asked("the text of tokens", "/detokenize", {**base, "tokens": [300, 301]})
    yield Asked("the text of unknown tokens", "/detokenize", {**base, "tokens": [10**9]})
    response = {**base, "input": "the river", "max_output_tokens": 8, "temperature": 0}
    message = {**base, **_SAID, "max_tokens": 8, "temperature": 0}
    for streamed in (False, True):
        kind = "streamed " if streamed else ""
        yield Asked(f"a {kind}response", "/v1/responses", {**response, "stream": streamed})
        yield Asked(f"a {kind}message", "/v1/messages", {**message, "stream": streamed})
    yield Asked("the tokens of a message", "/v1/messages/count_tokens", {**base, **_SAID})
    yield Asked("a response of another model", "/v1/responses", {**response, "model": "none"})
    yield Asked("a message of another model", "/v1/messages", {**message, "model": "none"})
