"""Reads the request fields that choose tokens: seeds, penalties, bias, grammars, tool calls."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final
from zlib import crc32

from e2e.engine_simulator.refusals import JsonObject, RequestRefused, malformed
from e2e.engine_simulator.sampler import Wishes, bias_of
from e2e.engine_simulator.vocabulary import SIZE, tokenise
from e2e.engine_simulator.words import WORDS

_WORDS: Final = WORDS.split()
_SAYING_WORDS: Final = 40
"""Words in each text that a grammar holds: enough to outgrow a stage on the way."""
_REGEX_PART: Final = re.compile(r"\[(.)-(.)\]\{(\d+)\}")


def wishes_of(body: JsonObject, call: str | None, key: bytes) -> Wishes:
    """All of them. `call` is the tool that is to be called; `key` stands for the prompt, on which
    a scripted answer depends. Raises RequestRefused."""
    _check_ranges(body)
    forced, banned = bias_of(_biases(body))
    temperature = _number(body, "temperature")
    seed = body.get("seed")
    return Wishes(
        seed=None if temperature == 0 or not isinstance(seed, int) else seed,
        penalises_output=bool(
            _number(body, "presence_penalty") or _number(body, "frequency_penalty")
        ),
        penalises_all=(_number(body, "repetition_penalty") or 1) != 1,
        banned=banned | _bad_words(body),
        allowed=tuple(sorted(_ids(body, "allowed_token_ids"))),
        forced=forced,
        script=tuple(tokenise(_script(body, call, key))),
    )


def _check_ranges(body: JsonObject) -> None:
    temperature, top_p = _number(body, "temperature"), _number(body, "top_p")
    if temperature is not None and temperature < 0:
        raise RequestRefused(
            f"temperature must be non-negative, got {temperature}.", parameter="temperature"
        )
    if top_p is not None and not 0 < top_p <= 1:
        raise RequestRefused(f"top_p must be in (0, 1], got {top_p}.", parameter="top_p")
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = _number(body, name)
        if penalty is not None and not -2 <= penalty <= 2:
            raise RequestRefused(f"{name} must be in [-2, 2], got {penalty}.")


def called_tool(body: JsonObject, state: int) -> str | None:
    """The name of the tool that the model calls, if it calls one: the one that it must, or, by
    its own choice, one for every second prompt. Raises RequestRefused."""
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    names = [tool["function"]["name"] for tool in tools if isinstance(tool, Mapping)]
    if isinstance(choice, Mapping):
        wanted = choice.get("function", {}).get("name")
        if wanted not in names:
            raise RequestRefused(
                "The tool specified in `tool_choice` does not match any of the specified `tools`",
                parameter="tool_choice",
            )
        return str(wanted)
    if choice == "required" and not names:
        raise RequestRefused(
            "When using `tool_choice`, `tools` must be set.", parameter="tool_choice"
        )
    if not names or choice == "none" or (choice != "required" and state % 2):
        return None
    return str(names[state % len(names)])


def _script(body: JsonObject, call: str | None, key: bytes) -> str:
    if call is not None:
        tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or []}
        return _object(tools[call].get("parameters"), key)
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "json_object":
        return _object(None, key)
    if isinstance(form, Mapping) and kind == "json_schema":
        return _object((form.get("json_schema") or {}).get("schema"), key)
    wanted = body.get("structured_outputs")
    return _structured(wanted, key) if isinstance(wanted, Mapping) else ""


def _structured(wanted: Mapping[str, Any], key: bytes) -> str:
    if wanted.get("json") is not None:
        schema = wanted["json"]
        return _object(json.loads(schema) if isinstance(schema, str) else schema, key)
    if wanted.get("choice"):
        return str(wanted["choice"][crc32(key) % len(wanted["choice"])])
    if wanted.get("regex"):
        return _matching(wanted["regex"], key)
    raise RequestRefused(
        "the engine simulator knows json, choice and regex", parameter="structured_outputs"
    )


def _matching(regex: str, key: bytes) -> str:
    parts = _REGEX_PART.findall(regex)
    if _REGEX_PART.sub("", regex) or not parts:
        raise RequestRefused(
            "the engine simulator reads regular expressions made of parts like [a-c]{30}",
            parameter="structured_outputs",
        )
    out = ""
    for first, last, count in parts:
        span = ord(last) - ord(first) + 1
        drawn = (crc32(b"%d" % number, crc32(key)) for number in range(int(count)))
        out += "".join(chr(ord(first) + value % span) for value in drawn)
    return out


def _object(schema: object, key: bytes) -> str:
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    names = list(properties) if isinstance(properties, Mapping) else ["answer"]
    texts = (f'"{name}": "{_saying(name.encode() + key)}"' for name in names)
    return "{" + ", ".join(texts) + "}"


def _saying(key: bytes) -> str:
    drawn = (crc32(b"%d" % number, crc32(key)) for number in range(_SAYING_WORDS))
    return " ".join(_WORDS[value % len(_WORDS)] for value in drawn)


def _biases(body: JsonObject) -> dict[int, float]:
    biases = body.get("logit_bias") or {}
    try:
        read = {int(number): float(bias) for number, bias in biases.items()}
    except (AttributeError, ValueError, TypeError):
        raise malformed("logit_bias must map token ids to numbers", "logit_bias") from None
    return read


def _bad_words(body: JsonObject) -> frozenset[int]:
    """Words of one token; longer ones never come together in this model's text."""
    words = body.get("bad_words") or []
    forms = [form for word in words for form in (str(word), f" {word}")]
    return frozenset(ids[0] for form in forms if len(ids := tokenise(form)) == 1)


def _ids(body: JsonObject, name: str) -> frozenset[int]:
    ids = body.get(name) or []
    if not isinstance(ids, list) or not all(type(n) is int and 0 <= n < SIZE for n in ids):
        raise RequestRefused(f"{name} must be token ids of the vocabulary", parameter=name)
    return frozenset(ids)


def _number(body: JsonObject, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise malformed(f"{name} must be a number, not {value!r}", name)
    return float(value)
