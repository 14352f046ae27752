"""Which requests may be handed over, and which fields a client must not send at all.

By allow-list: engines gain request fields with every release, and a field that nobody has tried
across a hand-over may change the answer. A request with any other field is pinned, which means
exactly "not handed over": it is placed by price like any other.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_policy.request_ids import is_plain


class Pin(StrEnum):
    """Why a request is not handed over: a closed set, the label values of a counter."""

    UNSTREAMED = "unstreamed"
    SEVERAL_CHOICES = "several-choices"
    SEVERAL_PROMPTS = "several-prompts"
    EMBEDDINGS = "embeddings"
    MULTIMODAL = "multimodal"
    ECHO = "echo"
    LOGPROBS = "logprobs"
    SUFFIX = "suffix"
    TOOLS = "tools"
    STRUCTURED_OUTPUT = "structured-output"
    PENALTY = "penalty"
    STOP = "stop"
    SEED = "seed"
    UNKNOWN_FIELD = "unknown-field"
    UNEXPECTED_VALUE = "unexpected-value"
    OTHER_PATH = "other-path"
    PARSER = "parser"
    """The answer carries parts that a parser made, such as reasoning."""
    NO_IDS = "no-ids"
    """The engine's answer carries no token ids."""
    DISABLED = "disabled"


REFUSED_HEADERS: Final = frozenset({"x-data-parallel-rank", "x-vllm-priority"})
"""Headers, in lower case, by which a client could choose the place inside an engine, or overtake
other clients."""

_REFUSED: Final = ("kv_transfer_params", "ec_transfer_params")
STEERING_FIELDS: Final = frozenset({*_REFUSED, "vllm_xargs", "priority", "request_id"})
"""All fields that `refused_fields` looks at."""


def refused_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Fields of a request, to any path, by which a client could steer an engine: to be answered
    with 400.

    Transfer parameters make an engine contact any host, and so may a `request_id` in which an
    address is written; `priority` would overtake other clients.
    """
    refused = [name for name in _REFUSED if body.get(name) is not None]
    extra = body.get("vllm_xargs")
    if isinstance(extra, Mapping):
        refused += [f"vllm_xargs.{name}" for name in _REFUSED if extra.get(name) is not None]
    if body.get("priority"):
        refused.append("priority")
    identity = body.get("request_id")
    if identity is not None and not (isinstance(identity, str) and is_plain(identity)):
        refused.append("request_id")
    return tuple(refused)


def pin_reason(path: str, body: Mapping[str, Any]) -> Pin | None:
    """Why a request must stay where it is placed first, or None when it may be handed over.

    Null fields count as absent, and so do values that mean "off".
    """
    rules = _RULES.get(path)
    if rules is None:
        return Pin.OTHER_PATH
    if body.get("stream") is not True:
        return Pin.UNSTREAMED
    if path == COMPLETIONS_PATH and body.get("prompt") is None:
        return Pin.EMBEDDINGS if body.get("prompt_embeds") is not None else Pin.UNEXPECTED_VALUE
    for name, value in body.items():
        if value is None:
            continue
        rule = rules.get(name)
        pin = Pin.UNKNOWN_FIELD if rule is None else rule(value)
        if pin is not None:
            return pin
    return _combined(body)


Rule = Callable[[Any], Pin | None]


def _any(_: Any) -> None:
    """The field survives a hand-over whatever its value: it is passed on with every leg."""


def _number(value: Any) -> Pin | None:
    good = isinstance(value, int | float) and not isinstance(value, bool)
    return None if good else Pin.UNEXPECTED_VALUE


def _whole(value: Any) -> Pin | None:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return None if good else Pin.UNEXPECTED_VALUE


def _flag(value: Any) -> Pin | None:
    return None if isinstance(value, bool) else Pin.UNEXPECTED_VALUE


def _text(value: Any) -> Pin | None:
    return None if isinstance(value, str) else Pin.UNEXPECTED_VALUE


def _unless(*harmless: object, pin: Pin) -> Rule:
    """A field that pins unless it has a value that means "off"."""

    def rule(value: Any) -> Pin | None:
        return None if any(type(value) is type(off) and value == off for off in harmless) else pin

    return rule


def _prompt(value: Any) -> Pin | None:
    if isinstance(value, str):
        return None
    if not isinstance(value, list) or not value:
        return Pin.UNEXPECTED_VALUE
    if type(value[0]) is int:
        # Only the ends are looked at: a prompt can have hundreds of thousands of ids, and an
        # engine refuses a mixed list.
        return None if type(value[-1]) is int else Pin.UNEXPECTED_VALUE
    if len(value) > 1:
        return Pin.SEVERAL_PROMPTS
    return None if isinstance(value[0], str) else Pin.UNEXPECTED_VALUE


def _messages(value: Any) -> Pin | None:
    if not isinstance(value, list) or not value:
        return Pin.UNEXPECTED_VALUE
    for message in value:
        if not isinstance(message, Mapping):
            return Pin.UNEXPECTED_VALUE
        for name in message:
            if name not in _MESSAGE_FIELDS and message[name] is not None:
                return Pin.UNKNOWN_FIELD
        pin = _content(message.get("content"))
        if pin is not None:
            return pin
    return None


def _content(content: Any) -> Pin | None:
    if content is None or isinstance(content, str):
        return None
    if not isinstance(content, list):
        return Pin.UNEXPECTED_VALUE
    for part in content:
        if isinstance(part, str):
            continue
        if not isinstance(part, Mapping) or part.get("type") != "text":
            return Pin.MULTIMODAL
    return None


def _stream_options(value: Any) -> Pin | None:
    if not isinstance(value, Mapping):
        return Pin.UNEXPECTED_VALUE
    for name, option in value.items():
        if name == "include_usage" and (option is None or isinstance(option, bool)):
            continue
        if option is not None and option is not False:
            return Pin.UNKNOWN_FIELD
    return None


def _combined(body: Mapping[str, Any]) -> Pin | None:
    """Fields whose meaning depends on another one."""
    tools, choice = body.get("tools"), body.get("tool_choice")
    # Tools that the model may not call only change the prompt, which the first leg renders.
    if (tools and choice != "none") or choice not in (None, "none", "auto"):
        return Pin.TOOLS
    # A seed starts its random sequence again with every leg; greedy sampling has none.
    temperature = body.get("temperature")
    greedy = isinstance(temperature, int | float) and temperature == 0
    return Pin.SEED if body.get("seed") is not None and not greedy else None


_MESSAGE_FIELDS: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})

_COMMON: Final[dict[str, Rule]] = {
    # Passed on with every leg.
    "model": _text,
    "temperature": _number,
    "top_p": _number,
    "top_k": _number,
    "min_p": _number,
    "repetition_penalty": _number,
    "logit_bias": _any,
    "allowed_token_ids": _any,
    "stop_token_ids": _any,
    "ignore_eos": _flag,
    "skip_special_tokens": _flag,
    "spaces_between_special_tokens": _flag,
    "include_stop_str_in_output": _flag,
    "cache_salt": _text,
    "priority": _unless(0, pin=Pin.UNEXPECTED_VALUE),
    "user": _text,
    "stream": _flag,
    # Rewritten for every leg.
    "max_tokens": _whole,
    "min_tokens": _whole,
    "stream_options": _stream_options,
    "return_token_ids": _flag,
    # Goes with every leg as a header.
    "request_id": _text,
    # Only the first leg needs them: the next ones resume by ids.
    "add_special_tokens": _flag,
    # Pinned unless they are switched off.
    "n": _unless(1, pin=Pin.SEVERAL_CHOICES),
    "use_beam_search": _unless(False, pin=Pin.SEVERAL_CHOICES),
    "echo": _unless(False, pin=Pin.ECHO),
    "prompt_logprobs": _unless(pin=Pin.LOGPROBS),
    "presence_penalty": _unless(0, 0.0, pin=Pin.PENALTY),
    "frequency_penalty": _unless(0, 0.0, pin=Pin.PENALTY),
    "stop": _unless([], pin=Pin.STOP),
    "seed": _any,
    "response_format": _unless({"type": "text"}, pin=Pin.STRUCTURED_OUTPUT),
    "structured_outputs": _unless(pin=Pin.STRUCTURED_OUTPUT),
}
_RULES: Final[dict[str, dict[str, Rule]]] = {
    COMPLETIONS_PATH: {
        **_COMMON,
        "prompt": _prompt,
        "prompt_embeds": _unless(pin=Pin.EMBEDDINGS),
        "best_of": _unless(1, pin=Pin.SEVERAL_CHOICES),
        "logprobs": _unless(pin=Pin.LOGPROBS),
        "suffix": _unless("", pin=Pin.SUFFIX),
    },
    CHAT_PATH: {
        **_COMMON,
        "messages": _messages,
        "max_completion_tokens": _whole,
        "add_generation_prompt": _flag,
        "continue_final_message": _flag,
        "include_reasoning": _unless(True, pin=Pin.PARSER),
        "logprobs": _unless(False, pin=Pin.LOGPROBS),
        "top_logprobs": _unless(0, pin=Pin.LOGPROBS),
        "tools": _any,
        "tool_choice": _any,
        "parallel_tool_calls": _any,
    },
}
