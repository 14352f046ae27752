"""Cases of request fields: each must mean through a router what it means to the engine alone."""

from collections.abc import Iterator
from typing import Any, Final

from e2e.continuity_suite.cases import Ask, Case, How
from e2e.continuity_suite.prompts import Prompts
from e2e.continuity_suite.stream_cases import asking

_WEATHER: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
            "required": ["city", "day"],
        },
    },
}
_NAMED: Final = {"type": "function", "function": {"name": "weather"}}
_SCHEMA: Final = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "town": {"type": "string"}},
    "required": ["name", "town"],
}
_RANDOM: Final = {"temperature": 1.0}
_OFF: Final = dict.fromkeys(("stop", "seed", "logit_bias", "stream_options"))
_Row = tuple[str, dict[str, Any], str]
"""(what the field is called, the fields, the reason to pin; "" where it survives a hand-over)."""

_BOTH: Final[tuple[_Row, ...]] = (
    ("a presence penalty", {"presence_penalty": 0.8}, "penalty"),
    ("a frequency penalty", {"frequency_penalty": 0.8}, "penalty"),
    ("a repetition penalty", {"repetition_penalty": 1.3}, ""),
    ("a seed", {**_RANDOM, "seed": 7}, "seed"),
    ("a seed with greedy sampling", {"seed": 7}, ""),
    ("several answers (n = 3)", {**_RANDOM, "seed": 5, "n": 3}, "several-choices"),
    ("a bias", {"logit_bias": {"300": -100, "301": -100, "310": -100}}, ""),
    ("allowed token ids", {"allowed_token_ids": list(range(300, 340))}, ""),
    ("top_k, top_p and min_p", {"top_k": 5, "top_p": 0.9, "min_p": 0.01}, ""),
    ("bad words", {"bad_words": ["the", "river"]}, "unknown-field"),
    ("a cache salt", {"cache_salt": "salt"}, ""),
    ("a user", {"user": "somebody"}, ""),
    ("a request id", {"request_id": "continuity-1"}, ""),
    ("skip_special_tokens", {"skip_special_tokens": False}, ""),
    ("spaces_between_special_tokens", {"spaces_between_special_tokens": False}, ""),
    ("a JSON grammar", {"structured_outputs": {"json": _SCHEMA}}, "structured-output"),
    ("a choice", {"structured_outputs": {"choice": ["yes", "no"]}}, "structured-output"),
    ("a regular expression", {"structured_outputs": {"regex": "[a-c]{40}[x-z]{40}"}},
     "structured-output"),
    ("response_format json_object", {"response_format": {"type": "json_object"}},
     "structured-output"),
    ("response_format text", {"response_format": {"type": "text"}}, ""),
    ("a field that nobody knows", {"not_a_field": 1}, "unknown-field"),
)  # fmt: skip
_COMPLETIONS: Final[tuple[_Row, ...]] = (
    ("null for every field", _OFF, ""),
    ("log probabilities", {"logprobs": 3}, "logprobs"),
    ("log probabilities of the chosen token alone", {"logprobs": 0}, "logprobs"),
    ("an echoed prompt", {"echo": True}, "echo"),
    ("an echoed prompt with ids", {"echo": True, "return_token_ids": True}, "echo"),
    ("an echoed prompt and nothing else", {"echo": True, "max_tokens": 0}, "echo"),
)
_CHATS: Final[tuple[_Row, ...]] = (
    ("null for every field", {"n": None, **_OFF}, ""),
    ("log probabilities", {"logprobs": True, "top_logprobs": 3}, "logprobs"),
    ("response_format json_schema",
     {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}}},
     "structured-output"),
    ("a tool that must be called", {"tools": [_WEATHER], "tool_choice": "required"}, "tools"),
    ("a tool that is named", {"tools": [_WEATHER], "tool_choice": _NAMED}, "tools"),
    ("tools that may be called", {"tools": [_WEATHER]}, "tools"),
    ("tools that may not be called", {"tools": [_WEATHER], "tool_choice": "none"}, ""),
    ("a template's arguments", {"chat_template_kwargs": {"enable_thinking": False}},
     "unknown-field"),
    ("include_reasoning false", {"include_reasoning": False}, "parser"),
)  # fmt: skip
_REFUSED: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("another model", {"model": "no-such-model"}),
    ("several greedy answers", {"n": 2}),
    ("prompt_logprobs of a stream", {"prompt_logprobs": 1}),
    ("an empty stop string", {"stop": [""]}),
    ("a bias that is a list", {"logit_bias": [1]}),
    ("stop_token_ids that are a number", {"stop_token_ids": 5}),
    ("a negative min_tokens", {"min_tokens": -1}),
)


def field_cases(prompts: Prompts) -> Iterator[Case]:
    """All of them, each at positions on both sides of hand-overs."""
    for chat in (False, True):
        yield from _fields(prompts, chat=chat)
    yield from _prompts(prompts)
    for chat in (False, True):
        asks = (prompts.of_length(10, 9, chat=chat),)
        for name, fields in _REFUSED:
            yield Case("refusals", f"a {_kind(chat)} with {name} is refused",
                       asking(asks, **fields), refused=True)  # fmt: skip
    yield Case("refusals", "an empty prompt is refused",
               asking([prompts.of_length(10, 3, chat=False)], prompt=[]),
               refused=True)  # fmt: skip


def _kind(chat: bool) -> str:
    return "chat" if chat else "completion"


def _fields(prompts: Prompts, *, chat: bool) -> Iterator[Case]:
    asks = tuple(prompts.of_length(length, 9, chat=chat) for length in (10, 44, 60))
    for name, fields, pin in (*_BOTH, *(_CHATS if chat else _COMPLETIONS)):
        asked = {"max_tokens": 90, "ignore_eos": pin == "", **fields}
        yield Case("fields", f"a {_kind(chat)} with {name}", asking(asks, **asked), pin=pin)
    yield from _stops(prompts, asks, _kind(chat))


def _stops(prompts: Prompts, asks: tuple[Ask, ...], kind: str) -> Iterator[Case]:
    strings = {at: [prompts.stop_string(ask, at) for ask in asks] for at in (3, 20, 40, 55, 70)}
    stopped = [
        asking([ask], stop=[stop], max_tokens=90, ignore_eos=True)[0]
        for stops in strings.values()
        for ask, stop in zip(asks, stops, strict=True)
    ]
    yield Case("fields", f"a {kind} stops at a stop string, wherever it comes",
               tuple(stopped), pin="stop")  # fmt: skip
    yield Case("fields", f"a {kind} keeps its stop string if asked to",
               asking(stopped, include_stop_str_in_output=True), pin="stop")  # fmt: skip
    yield Case("fields", f"a {kind} stops at a token id, wherever it comes",
               asking(asks, stop_token_ids=list(range(280, 300)), max_tokens=150),
               pin="")  # fmt: skip
    yield Case("fields", f"an unstreamed {kind} stops at a stop string",
               tuple(stopped), How.WHOLE, pin="unstreamed")  # fmt: skip


def _prompts(prompts: Prompts) -> Iterator[Case]:
    chat = prompts.of_length(40, 2, chat=True)
    first = chat.fields["messages"]
    reply = {"role": "assistant", "content": "it is"}
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    long = {"max_tokens": 90, "ignore_eos": True}
    yield Case("fields", "a chat that continues a message goes on where it ends",
               asking([chat], messages=[*first, reply], **flags, **long), pin="")  # fmt: skip
    parts = [{"type": "text", "text": "the river"}, {"type": "text", "text": "and the sea"}]
    yield Case("fields", "a chat of several text parts",
               asking([chat], messages=[{"role": "user", "content": parts}], **long),
               pin="")  # fmt: skip
    one = prompts.of_length(12, 3, chat=False)
    texts = {"prompt": ["the river of words", "a hill"], "max_tokens": 60}
    yield Case("fields", "several prompts are answered side by side",
               asking([one], **texts), pin="several-prompts")  # fmt: skip
    yield Case("fields", "several prompts with several answers keep their places",
               asking([one], **{**texts, "n": 2, "seed": 3, "temperature": 1.0}),
               pin="several-prompts")  # fmt: skip
    text = {"prompt": "the quick brown fox of the forest " * 3, **long}
    yield Case("fields", "a completion with a prompt of text",
               asking([one], **text, add_special_tokens=True), pin="")  # fmt: skip
