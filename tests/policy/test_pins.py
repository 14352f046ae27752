"""Which requests may be handed over: case by case, and that nothing unknown ever may."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.accounting import CHAT_PATH, COMPLETIONS_PATH
from cascade_policy.pins import REFUSED_HEADERS, Pin, pin_reason, refused_fields

COMPLETION: dict[str, Any] = {"model": "m", "prompt": "Once", "stream": True}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hello"}],
    "stream": True,
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:,"}}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="the plain request"),
        pytest.param({"prompt": [1, 2, 3]}, id="a prompt of ids"),
        pytest.param({"prompt": ["Once"]}, id="a list of one prompt"),
        pytest.param({"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.1}, id="sampling"),
        pytest.param({"seed": 7, "temperature": 0}, id="a seed that greedy sampling ignores"),
        pytest.param({"stop": None, "n": None, "suffix": None}, id="null fields"),
        pytest.param({"stop": [], "n": 1, "best_of": 1, "echo": False}, id="fields switched off"),
        pytest.param({"presence_penalty": 0, "frequency_penalty": 0.0}, id="penalties of zero"),
        pytest.param({"max_tokens": 900, "min_tokens": 3, "ignore_eos": True}, id="limits"),
        pytest.param({"stop_token_ids": [7], "logit_bias": {"3": 1}}, id="ids to stop at, biases"),
        pytest.param({"stream_options": {"include_usage": True}}, id="usage at the end"),
        pytest.param({"request_id": "mine"}, id="an id"),
        pytest.param({"repetition_penalty": 1.1, "cache_salt": "s", "user": "u"}, id="passed on"),
    ],
)
def test_a_completion_may_be_handed_over_with(body: dict[str, Any]) -> None:
    assert pin_reason(COMPLETIONS_PATH, {**COMPLETION, **body}) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({"stream": False}, Pin.UNSTREAMED, id="no stream"),
        pytest.param({"stream": None}, Pin.UNSTREAMED, id="stream null"),
        pytest.param({"n": 2}, Pin.SEVERAL_CHOICES, id="two choices"),
        pytest.param({"best_of": 3}, Pin.SEVERAL_CHOICES, id="best of three"),
        pytest.param({"use_beam_search": True}, Pin.SEVERAL_CHOICES, id="beam search"),
        pytest.param({"prompt": ["a", "b"]}, Pin.SEVERAL_PROMPTS, id="two prompts"),
        pytest.param({"prompt": [[1], [2]]}, Pin.SEVERAL_PROMPTS, id="two prompts of ids"),
        pytest.param({"prompt": None, "prompt_embeds": "x"}, Pin.EMBEDDINGS, id="embeddings only"),
        pytest.param({"prompt_embeds": "x"}, Pin.EMBEDDINGS, id="embeddings beside a prompt"),
        pytest.param({"prompt": None}, Pin.UNEXPECTED_VALUE, id="no prompt"),
        pytest.param({"prompt": [1, "b"]}, Pin.UNEXPECTED_VALUE, id="a mixed prompt"),
        pytest.param({"prompt": [True]}, Pin.UNEXPECTED_VALUE, id="a prompt of booleans"),
        pytest.param({"echo": True}, Pin.ECHO, id="echo"),
        pytest.param({"logprobs": 0}, Pin.LOGPROBS, id="logprobs of the sampled token"),
        pytest.param({"prompt_logprobs": 0}, Pin.LOGPROBS, id="logprobs of the prompt"),
        pytest.param({"suffix": "."}, Pin.SUFFIX, id="a suffix"),
        pytest.param({"stop": "\n"}, Pin.STOP, id="a stop string"),
        pytest.param({"stop": ["\n"]}, Pin.STOP, id="a list of stop strings"),
        pytest.param({"presence_penalty": 0.1}, Pin.PENALTY, id="a presence penalty"),
        pytest.param({"frequency_penalty": -1}, Pin.PENALTY, id="a frequency penalty"),
        pytest.param({"seed": 7}, Pin.SEED, id="a seed at the default temperature"),
        pytest.param({"seed": 7, "temperature": 0.5}, Pin.SEED, id="a seed with a temperature"),
        pytest.param(
            {"response_format": {"type": "json_object"}}, Pin.STRUCTURED_OUTPUT, id="JSON",
        ),
        pytest.param({"structured_outputs": {}}, Pin.STRUCTURED_OUTPUT, id="structured outputs"),
        pytest.param({"watermarking": True}, Pin.UNKNOWN_FIELD, id="a field that is not listed"),
        pytest.param({"bad_words": ["x"]}, Pin.UNKNOWN_FIELD, id="bad words"),
        pytest.param({"temperature": "hot"}, Pin.UNEXPECTED_VALUE, id="a temperature in words"),
        pytest.param({"max_tokens": 1.5}, Pin.UNEXPECTED_VALUE, id="half a token"),
        pytest.param({"max_tokens": True}, Pin.UNEXPECTED_VALUE, id="a boolean limit"),
        pytest.param(
            {"stream_options": {"continuous_usage_stats": True}}, Pin.UNKNOWN_FIELD,
            id="usage on every chunk",
        ),
    ],
)  # fmt: skip
def test_a_completion_is_pinned_with(body: dict[str, Any], reason: Pin) -> None:
    assert pin_reason(COMPLETIONS_PATH, {**COMPLETION, **body}) is reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({}, None, id="the plain request"),
        pytest.param({"max_completion_tokens": 5}, None, id="the newer limit"),
        pytest.param({"tools": [TOOL], "tool_choice": "none"}, None, id="tools not to be called"),
        pytest.param({"tools": [], "tool_choice": "auto"}, None, id="no tools at all"),
        pytest.param({"logprobs": False, "top_logprobs": 0}, None, id="logprobs switched off"),
        pytest.param({"tools": [TOOL]}, Pin.TOOLS, id="tools"),
        pytest.param({"tools": [TOOL], "tool_choice": "auto"}, Pin.TOOLS, id="tools if it likes"),
        pytest.param({"tool_choice": "required"}, Pin.TOOLS, id="tools that must be called"),
        pytest.param({"logprobs": True}, Pin.LOGPROBS, id="logprobs"),
        pytest.param({"include_reasoning": False}, Pin.PARSER, id="reasoning cut out"),
        pytest.param({"prompt": "x"}, Pin.UNKNOWN_FIELD, id="a completion's field"),
        pytest.param({"chat_template_kwargs": {}}, Pin.UNKNOWN_FIELD, id="template arguments"),
        pytest.param({"messages": []}, Pin.UNEXPECTED_VALUE, id="no messages"),
        pytest.param({"messages": ["Hi"]}, Pin.UNEXPECTED_VALUE, id="a message that is a string"),
        pytest.param(
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]}, None,
            id="text in parts",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": [IMAGE]}]}, Pin.MULTIMODAL, id="an image",
        ),
        pytest.param(
            {"messages": [{"role": "user", "content": "Hi", "audio": {}}]}, Pin.UNKNOWN_FIELD,
            id="a message with a field that is not listed",
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, None,
            id="a tool call in the history",
        ),
    ],
)  # fmt: skip
def test_a_chat_is_pinned_or_not_with(body: dict[str, Any], reason: Pin | None) -> None:
    assert pin_reason(CHAT_PATH, {**CHAT, **body}) is reason


def test_other_paths_are_never_handed_over() -> None:
    assert pin_reason("/v1/responses", {"stream": True}) is Pin.OTHER_PATH


# Repeated here on purpose: a field that is added to the rules must be added to this list too.
LISTED = frozenset(
    {
        *("model", "prompt", "messages", "stream", "stream_options", "return_token_ids"),
        *("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logit_bias", "seed"),
        *("allowed_token_ids", "stop_token_ids", "ignore_eos", "skip_special_tokens", "stop"),
        *("spaces_between_special_tokens", "include_stop_str_in_output", "cache_salt", "priority"),
        *("user", "max_tokens", "max_completion_tokens", "min_tokens", "add_special_tokens", "n"),
        *("use_beam_search", "best_of", "echo", "logprobs", "top_logprobs", "prompt_logprobs"),
        *("presence_penalty", "frequency_penalty", "response_format", "structured_outputs"),
        *("prompt_embeds", "suffix", "add_generation_prompt", "continue_final_message"),
        *("include_reasoning", "tools", "tool_choice", "parallel_tool_calls", "request_id"),
    }
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(
    path=st.sampled_from([COMPLETIONS_PATH, CHAT_PATH]),
    name=st.text(min_size=1).filter(lambda name: name not in LISTED),
    value=json_values.filter(lambda value: value is not None),
)
def test_a_field_that_is_not_listed_always_pins(path: str, name: str, value: object) -> None:
    body = {**(CHAT if path == CHAT_PATH else COMPLETION), name: value}
    assert pin_reason(path, body) is Pin.UNKNOWN_FIELD


@given(
    path=st.sampled_from([COMPLETIONS_PATH, CHAT_PATH]),
    body=st.dictionaries(st.sampled_from(sorted(LISTED)) | st.text(max_size=4), json_values),
)
def test_no_body_breaks_the_rules(path: str, body: dict[str, Any]) -> None:
    assert pin_reason(path, {**body, "stream": True}) in (None, *Pin)
    refused_fields(body)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        pytest.param({}, (), id="nothing"),
        pytest.param({"kv_transfer_params": None}, (), id="null means absent"),
        pytest.param({"kv_transfer_params": {}}, ("kv_transfer_params",), id="KV transfer"),
        pytest.param({"ec_transfer_params": {"a": 1}}, ("ec_transfer_params",), id="encoder cache"),
        pytest.param(
            {"vllm_xargs": {"kv_transfer_params": {"a": 1}}}, ("vllm_xargs.kv_transfer_params",),
            id="KV transfer by the back door",
        ),
        pytest.param({"vllm_xargs": {"other": 1}}, (), id="other extra arguments"),
        pytest.param({"priority": 0}, (), id="the normal priority"),
        pytest.param({"priority": -5}, ("priority",), id="overtaking"),
    ],
)  # fmt: skip
def test_fields_that_steer_an_engine_are_refused(
    body: dict[str, Any], refused: tuple[str, ...]
) -> None:
    assert refused_fields(body) == refused


def test_the_headers_that_choose_a_rank_or_a_priority_are_refused() -> None:
    assert {"x-data-parallel-rank", "x-vllm-priority"} == REFUSED_HEADERS
