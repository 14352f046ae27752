"""What becomes of every field that vLLM's requests have: whether it survives a hand-over, pins, or
is refused. A field of a later release is missing here, and pins as unknown until it is decided on.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH, Budget
from cascade_policy.pins import Pin, refused_fields
from cascade_router.api import (
    COUNT_TOKENS_PATH,
    DETOKENIZE_PATH,
    EMBEDDINGS_PATH,
    MESSAGES_PATH,
    RESPONSES_PATH,
    TOKENIZE_PATH,
)
from cascade_router.errors import RequestError
from cascade_router.http1 import Request
from cascade_router.request import check, parse
from tests.router.engine_api.recording import LISTED

PASSED: Final = "goes with every leg as it is written"
REWRITTEN: Final = "goes with every leg, written anew"
FIRST_LEG: Final = "matters to the first leg only"
REFUSED: Final = "is refused"
Decision = str | Pin

REQUESTS: dict[str, list[str]] = LISTED["requests"]
TOOL = {"type": "function", "function": {"name": "f"}}

# A value that means something, and what it leads to.
COMMON: dict[str, tuple[Any, Decision]] = {
    "model": ("m", PASSED),
    "temperature": (0.5, PASSED),
    "top_p": (0.9, PASSED),
    "top_k": (40, PASSED),
    "min_p": (0.1, PASSED),
    "repetition_penalty": (1.1, PASSED),
    "logit_bias": ({"7": 1}, PASSED),
    "allowed_token_ids": ([7, 8], PASSED),
    "stop_token_ids": ([7], PASSED),
    "ignore_eos": (True, PASSED),
    "skip_special_tokens": (False, PASSED),
    "spaces_between_special_tokens": (False, PASSED),
    "include_stop_str_in_output": (True, PASSED),
    "cache_salt": ("s", PASSED),
    "user": ("u", PASSED),
    "stream": (True, REWRITTEN),
    "max_tokens": (50, REWRITTEN),
    "min_tokens": (20, REWRITTEN),
    "stream_options": ({"include_usage": True}, REWRITTEN),
    "return_token_ids": (True, REWRITTEN),
    "request_id": ("mine", REWRITTEN),
    "add_special_tokens": (False, FIRST_LEG),
    "kv_transfer_params": ({"do_remote_prefill": True}, REFUSED),
    "ec_transfer_params": ({"a": 1}, REFUSED),
    "priority": (-1, REFUSED),
    "n": (2, Pin.SEVERAL_CHOICES),
    "use_beam_search": (True, Pin.SEVERAL_CHOICES),
    "echo": (True, Pin.ECHO),
    "prompt_logprobs": (1, Pin.LOGPROBS),
    "presence_penalty": (0.5, Pin.PENALTY),
    "frequency_penalty": (0.5, Pin.PENALTY),
    "stop": (["x"], Pin.STOP),
    "seed": (7, Pin.SEED),
    "response_format": ({"type": "json_object"}, Pin.STRUCTURED_OUTPUT),
    "structured_outputs": ({"regex": "a"}, Pin.STRUCTURED_OUTPUT),
    "bad_words": (["x"], Pin.UNKNOWN_FIELD),
    "length_penalty": (1.5, Pin.UNKNOWN_FIELD),
    "logprob_token_ids": ([7], Pin.UNKNOWN_FIELD),
    "mm_payload": ("none", Pin.UNKNOWN_FIELD),
    "repetition_detection": ({"max_pattern_size": 3}, Pin.UNKNOWN_FIELD),
    "return_mm_kwargs": (False, Pin.UNKNOWN_FIELD),
    "return_token_offsets": (True, Pin.UNKNOWN_FIELD),
    "return_tokens_as_token_ids": (True, Pin.UNKNOWN_FIELD),
    "routed_experts_prompt_start": (1, Pin.UNKNOWN_FIELD),
    "session_id": ("s", Pin.UNKNOWN_FIELD),
    "stream_interval": (5, Pin.UNKNOWN_FIELD),
    "thinking_token_budget": (100, Pin.UNKNOWN_FIELD),
    "truncate_prompt_tokens": (10, Pin.UNKNOWN_FIELD),
    "truncation_side": ("left", Pin.UNKNOWN_FIELD),
    "vllm_xargs": ({"a": 1}, Pin.UNKNOWN_FIELD),
    "watermarking": (True, Pin.UNKNOWN_FIELD),
}
DECIDED: dict[str, dict[str, tuple[Any, Decision]]] = {
    "CompletionRequest": {
        **COMMON,
        "prompt": ([5, 6], REWRITTEN),
        "prompt_embeds": ("x", Pin.EMBEDDINGS),
        "logprobs": (1, Pin.LOGPROBS),
        "suffix": (".", Pin.SUFFIX),
    },
    "ChatCompletionRequest": {
        **COMMON,
        "messages": ([{"role": "user", "content": "a"}], FIRST_LEG),
        "max_completion_tokens": (50, REWRITTEN),
        "add_generation_prompt": (True, FIRST_LEG),
        "continue_final_message": (True, FIRST_LEG),
        "include_reasoning": (False, Pin.PARSER),
        "logprobs": (True, Pin.LOGPROBS),
        "top_logprobs": (2, Pin.LOGPROBS),
        "tools": ([TOOL], Pin.TOOLS),
        "tool_choice": ("required", Pin.TOOLS),
        "parallel_tool_calls": (False, FIRST_LEG),
        "chat_template": ("x", Pin.UNKNOWN_FIELD),
        "chat_template_kwargs": ({"a": 1}, Pin.UNKNOWN_FIELD),
        "documents": ([{"a": "b"}], Pin.UNKNOWN_FIELD),
        "media_io_kwargs": ({"image": {}}, Pin.UNKNOWN_FIELD),
        "mm_processor_kwargs": ({"a": 1}, Pin.UNKNOWN_FIELD),
        "reasoning_effort": ("low", Pin.UNKNOWN_FIELD),
        "return_prompt_text": (True, Pin.UNKNOWN_FIELD),
    },
}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "CompletionRequest": (COMPLETIONS_PATH, {"prompt": "a", "stream": True}),
    "ChatCompletionRequest": (
        CHAT_PATH,
        {"messages": [{"role": "user", "content": "a"}], "stream": True},
    ),
}
CASES = [
    pytest.param(model, name, value, decision, id=f"{model}.{name} {decision}")
    for model, fields in DECIDED.items()
    for name, (value, decision) in fields.items()
]


DOCUMENT: Final = Path(__file__).parents[3] / "router" / "API.md"


def documented() -> dict[str, set[str]]:
    """The tables of fields in the document: what becomes of them, and their names."""
    rows = re.findall(r"^\| (`[a-z].*`) \| (\S+) \|", DOCUMENT.read_text(), re.MULTILINE)
    found: dict[str, set[str]] = {}
    for names, reason in rows:
        found.setdefault(reason, set()).update(re.findall(r"`(\w+)`", names))
    return found


def test_the_document_lists_the_fields_of_the_code() -> None:
    decided: dict[str, set[str]] = {}
    for fields in DECIDED.values():
        for name, (_, decision) in fields.items():
            reason = decision.value if isinstance(decision, Pin) else decision
            handed_over = reason in (PASSED, REWRITTEN, FIRST_LEG)
            decided.setdefault("survives" if handed_over else reason, set()).add(name)
    decided["refused"] = decided.pop(REFUSED)
    # Whatever is not listed is unknown; the document names the well-known ones among them.
    assert documented().pop("unknown-field") <= decided.pop("unknown-field")
    assert {name: documented()[name] for name in decided} == decided


def request(path: str, body: Mapping[str, Any] | bytes) -> Request:
    """A request as the server hands it on."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Request("POST", path, {}, raw)


@pytest.mark.parametrize("model", DECIDED)
def test_every_field_is_decided_on(model: str) -> None:
    assert sorted(DECIDED[model]) == REQUESTS[model]


@pytest.mark.parametrize(("model", "name", "value", "decision"), CASES)
def test_a_field_leads_to_what_was_decided(
    model: str, name: str, value: Any, decision: Decision
) -> None:
    path, plain = PLAIN[model]
    asked = request(path, {**plain, name: value})
    if decision == REFUSED:
        with pytest.raises(RequestError, match=name):
            parse(asked)
        return
    generation = parse(asked)
    assert generation.pin is (decision if isinstance(decision, Pin) else None)
    assert json.loads(generation.first_leg())[name] == value, "leg 1 has it as it was written"
    if isinstance(decision, Pin):
        return
    later = json.loads(generation.next_leg(b"5,6,7", Budget(40, 10)))
    assert later["prompt"] == [5, 6, 7]
    assert "messages" not in later
    if decision == PASSED:
        assert later[name] == value
    elif decision == FIRST_LEG:
        assert name not in later


@pytest.mark.parametrize("model", DECIDED)
def test_what_is_written_anew_means_the_same_for_the_rest_of_the_answer(model: str) -> None:
    path, plain = PLAIN[model]
    usage = {"include_usage": True}
    body = {**plain, "stream_options": usage, "return_token_ids": False, "request_id": "mine"}
    generation = parse(request(path, body))
    later = json.loads(generation.next_leg(b"5,6,7", Budget(40, 10)))
    assert (later["max_tokens"], later["min_tokens"]) == (40, 10)
    assert (later["stream"], later["return_token_ids"], later["stream_options"]) == (
        True,
        True,
        usage,
    )
    assert ("x-request-id", "mine") in generation.headers
    without = replace(generation, wants_usage=False)
    assert "stream_options" not in json.loads(without.next_leg(b"5", Budget(1, 0)))


@pytest.mark.parametrize("model", DECIDED)
def test_a_field_of_a_later_release_pins(model: str) -> None:
    path, plain = PLAIN[model]
    assert parse(request(path, {**plain, "a_new_field": 1})).pin is Pin.UNKNOWN_FIELD
    assert parse(request(path, {**plain, "a_new_field": None})).pin is None


def test_options_of_a_stream_are_decided_on() -> None:
    decided = {"include_usage": None, "continuous_usage_stats": Pin.UNKNOWN_FIELD}
    assert sorted(decided) == sorted(REQUESTS["StreamOptions"])
    path, plain = PLAIN["CompletionRequest"]
    for name, pin in decided.items():
        assert parse(request(path, {**plain, "stream_options": {name: True}})).pin is pin


# On other paths nothing is handed over, so a field is either passed on or refused.
STEERING = {"kv_transfer_params": {"a": 1}, "ec_transfer_params": {"a": 1}, "priority": 1}
STORED = {"previous_response_id": "resp_1", "background": True}
OTHERS = {
    "ResponsesRequest": RESPONSES_PATH,
    "AnthropicMessagesRequest": MESSAGES_PATH,
    "EmbeddingCompletionRequest": EMBEDDINGS_PATH,
    "EmbeddingChatRequest": EMBEDDINGS_PATH,
    "EmbeddingChatInputRequest": EMBEDDINGS_PATH,
    "EmbeddingBatchChatRequest": EMBEDDINGS_PATH,
    "EmbeddingBatchChatInputRequest": EMBEDDINGS_PATH,
    "AnthropicCountTokensRequest": COUNT_TOKENS_PATH,
    "TokenizeCompletionRequest": TOKENIZE_PATH,
    "TokenizeChatRequest": TOKENIZE_PATH,
    "DetokenizeRequest": DETOKENIZE_PATH,
}
ASKED = {COUNT_TOKENS_PATH, TOKENIZE_PATH, DETOKENIZE_PATH}


def test_every_request_model_that_is_listed_is_decided_on() -> None:
    assert {*DECIDED, *OTHERS, "StreamOptions"} == set(REQUESTS)


@pytest.mark.parametrize(
    ("model", "name"), [(model, name) for model in OTHERS for name in REQUESTS[model]]
)
def test_a_field_of_another_path_is_passed_on_or_refused(model: str, name: str) -> None:
    path = OTHERS[model]
    value: Any = {**STEERING, **(STORED if path == RESPONSES_PATH else {})}.get(name, "x")
    asked = request(path, {name: value})
    if name in STEERING or (path == RESPONSES_PATH and name in STORED):
        with pytest.raises(RequestError) as refusal:
            parse(asked)
        assert name in refusal.value.message or "resp_1" in refusal.value.message
        return
    if path in ASKED:
        check(asked)
        return
    generation = parse(asked)
    assert generation.pin is Pin.OTHER_PATH
    assert generation.first_leg() == asked.body


@pytest.mark.parametrize("path", [*PLAIN["CompletionRequest"][:1], CHAT_PATH, *OTHERS.values()])
@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param(b'{"kv_transfer_params":{"a":1}}', "kv_transfer_params", id="KV transfer"),
        pytest.param(b'{"ec_transfer_params":{}}', "ec_transfer_params", id="encoder cache"),
        pytest.param(b'{"kv_transfer_params":[]}', "kv_transfer_params", id="of another type"),
        pytest.param(
            b'{"kv\\u005ftransfer_params":{}}', "kv_transfer_params", id="escaped in its name"
        ),
        pytest.param(
            b'{"kv_transfer_params":null,"kv_transfer_params":{}}', "kv_transfer_params",
            id="doubled, the last one counts",
        ),
        pytest.param(
            b'{"vllm_xargs":{"kv_transfer_params":{}}}', "vllm_xargs.kv_transfer_params",
            id="KV transfer as an extra argument",
        ),
        pytest.param(
            b'{"vllm_xargs":{"a":1,"ec_transfer_params":"x"}}', "vllm_xargs.ec_transfer_params",
            id="encoder cache as an extra argument",
        ),
        pytest.param(
            b'{"vllm_xargs":{' + b'"a":1,' * 60_000 + b'"b":1}}', "vllm_xargs",
            id="so many extra arguments that nobody looks at them",
        ),
        pytest.param(b'{"priority":-1}', "priority", id="overtaking"),
        pytest.param(b'{"priority":"1"}', "priority", id="overtaking in words"),
        pytest.param(
            b'{"request_id":"___prefill_addr_h:1___decode_addr_h:2_0"}', "request_id",
            id="the address of an engine in an id",
        ),
        pytest.param(b'{"request_id":"' + b"x" * 129 + b'"}', "request_id", id="an endless id"),
        pytest.param(b'{"request_id":7}', "request_id", id="an id that is no text"),
    ],
)  # fmt: skip
def test_what_steers_an_engine_is_refused_on_every_path(path: str, body: bytes, name: str) -> None:
    with pytest.raises(RequestError) as refusal:
        (check if path in ASKED else parse)(request(path, body))
    assert refusal.value.status == 400
    assert name in refusal.value.message


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        pytest.param({"request_id": "mine-1.a_b"}, (), id="a plain id"),
        pytest.param({"request_id": None}, (), id="no id"),
        pytest.param({"request_id": ""}, ("request_id",), id="an empty id"),
        pytest.param({"request_id": "a__b"}, ("request_id",), id="two underscores"),
        pytest.param({"request_id": "a\nb"}, ("request_id",), id="two lines"),
    ],
)
def test_ids_that_an_engine_may_see(body: dict[str, Any], refused: tuple[str, ...]) -> None:
    assert refused_fields(body) == refused
