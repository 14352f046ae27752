"""Several answers, echoed prompts, log probabilities, tools and grammars over HTTP."""

import json
from typing import Any

import pytest

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import tokenise
from tests.engine_simulator.conftest import Serve
from tests.engine_simulator.sse_reader import stream

PROMPT = "the river of words"
MESSAGES = [{"role": "user", "content": "the river"}]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"properties": {"city": {}, "day": {}}}},
}


def texts_by_index(choices: list[dict[str, Any]]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for choice in choices:
        text = choice["text"] if "text" in choice else choice["delta"].get("content") or ""
        texts[choice["index"]] = texts.get(choice["index"], "") + text
    return texts


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
async def test_several_answers_differ_and_are_the_same_streamed_and_unstreamed(
    serve: Serve, chat: bool
) -> None:
    asked = {"messages": MESSAGES} if chat else {"prompt": PROMPT}
    body = {**asked, "n": 3, "max_tokens": 20, "ignore_eos": True}
    options = {"stream_options": {"include_usage": True}}
    path = CHAT if chat else COMPLETIONS
    async with serve() as (client, _):
        streamed = await stream(client, path, {**body, **options})
        whole = (await client.post(path, json=body)).json()
    texts = texts_by_index(streamed.choices)
    assert len(set(texts.values())) == 3
    assert texts == {
        choice["index"]: choice["message"]["content"] if chat else choice["text"]
        for choice in whole["choices"]
    }
    assert streamed.done
    assert [event["usage"]["completion_tokens"] for event in streamed.events[-1:]] == [60]
    assert whole["usage"]["completion_tokens"] == 60
    if chat:
        assert sum("role" in choice["delta"] for choice in streamed.choices) == 3


async def test_several_prompts_are_answered_in_their_order(serve: Serve) -> None:
    body = {"prompt": [PROMPT, "a hill"], "max_tokens": 10, "ignore_eos": True}
    async with serve() as (client, _):
        whole = (await client.post(COMPLETIONS, json=body)).json()
        texts = texts_by_index((await stream(client, COMPLETIONS, body)).choices)
    want = [expected_output(tokenise(one), 10, ignore_eos=True).text for one in (PROMPT, "a hill")]
    assert [choice["text"] for choice in whole["choices"]] == want == [texts[0], texts[1]]
    assert whole["usage"]["prompt_tokens"] == len(tokenise(PROMPT)) + len(tokenise("a hill"))


async def test_an_echoed_prompt_comes_first(serve: Serve) -> None:
    body = {"prompt": PROMPT, "echo": True, "max_tokens": 10, "ignore_eos": True}
    want = expected_output(tokenise(PROMPT), 10, ignore_eos=True).text
    async with serve() as (client, _):
        assert (await stream(client, COMPLETIONS, body)).text == PROMPT + want
        whole = (await client.post(COMPLETIONS, json={**body, "max_tokens": 0})).json()
    assert whole["choices"][0]["text"] == PROMPT


async def test_log_probabilities_follow_the_tokens(serve: Serve) -> None:
    body = {"prompt": PROMPT, "logprobs": 2, "max_tokens": 30, "ignore_eos": True}
    async with serve() as (client, _):
        parts = [choice["logprobs"] for choice in (await stream(client, COMPLETIONS, body)).choices]
        whole = (await client.post(COMPLETIONS, json=body)).json()["choices"][0]["logprobs"]
        chat_body = {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2, "max_tokens": 5}
        chat = (await client.post(CHAT, json=chat_body)).json()["choices"][0]["logprobs"]
    for name in ("tokens", "token_logprobs", "top_logprobs"):
        assert [one for part in parts for one in part[name]] == whole[name]
    assert len(whole["tokens"]) == 30
    assert whole["text_offset"][:2] == [0, len(whole["tokens"][0])]
    assert all(len(entry["top_logprobs"]) == 2 for entry in chat["content"])


@pytest.mark.parametrize(
    ("choice", "finish"),
    [
        ("required", "tool_calls"),
        ({"type": "function", "function": {"name": "weather"}}, "stop"),
    ],
    ids=["required", "named"],
)
async def test_a_tool_call_streams_its_arguments(serve: Serve, choice: Any, finish: str) -> None:
    body = {"messages": MESSAGES, "tools": [WEATHER], "tool_choice": choice}
    async with serve() as (client, _):
        found = await stream(client, CHAT, body)
        whole = (await client.post(CHAT, json=body)).json()["choices"][0]
    calls = [call for one in found.choices for call in one["delta"].get("tool_calls", [])]
    assert calls[0]["function"] == {"name": "weather", "arguments": ""}
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert set(json.loads(arguments)) == {"city", "day"}
    assert whole["message"]["tool_calls"][0]["function"]["arguments"] == arguments
    assert found.finish[0] == whole["finish_reason"] == finish


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"json": {"properties": {"name": {}}}}},
    ],
)
async def test_a_grammar_makes_one_json_object(serve: Serve, fields: dict[str, Any]) -> None:
    async with serve() as (client, _):
        found = await stream(client, CHAT, {"messages": MESSAGES, **fields})
    assert isinstance(json.loads(found.text), dict)
    assert found.finish[0] == "stop"


async def test_a_regular_expression_is_matched_anew_by_whoever_resumes(serve: Serve) -> None:
    rule = {"structured_outputs": {"regex": "[a-c]{30}[x-z]{30}"}, "return_token_ids": True}
    async with serve() as (client, _):
        first = await stream(client, COMPLETIONS, {"prompt": PROMPT, "max_tokens": 9, **rule})
        resumed = [*tokenise(PROMPT), *first.ids]
        rest = await stream(client, COMPLETIONS, {"prompt": resumed, "max_tokens": 99, **rule})
    assert len(first.text) == 9
    assert len(rest.text) == 60


async def test_the_fingerprint_stands_on_the_last_event(serve: Serve) -> None:
    body = {"prompt": PROMPT, "max_tokens": 5, "ignore_eos": True}
    async with serve() as (client, _):
        bare = await stream(client, COMPLETIONS, body)
        asked = {**body, "stream_options": {"include_usage": True}}
        counted = await stream(client, COMPLETIONS, asked)
    for found in (bare, counted):
        assert ["system_fingerprint" in event for event in found.events].index(True) == (
            len(found.events) - 1
        )


async def test_a_message_can_be_continued(serve: Serve) -> None:
    open_end = [*MESSAGES, {"role": "assistant", "content": "it is"}]
    body = {"messages": open_end, "max_tokens": 4, "return_token_ids": True}
    flags = {"add_generation_prompt": False, "continue_final_message": True}
    async with serve() as (client, _):
        prompt = (await client.post(CHAT, json={**body, **flags})).json()["prompt_token_ids"]
    assert prompt[-2:] == tokenise("it is")[-2:]
