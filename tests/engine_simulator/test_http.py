"""The HTTP surface: shapes, defaults and refusals as clients of vLLM know them."""

import asyncio
from typing import Any

import pytest

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt, detokenise, tokenise
from tests.engine_simulator.conftest import Serve
from tests.engine_simulator.sse_reader import stream

PROMPT = "the river of words"
MESSAGES = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the river"}]
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"


@pytest.mark.parametrize("prompt", [PROMPT, tokenise(PROMPT)])
async def test_a_streamed_completion_is_the_uncut_answer(serve: Serve, prompt: Any) -> None:
    uncut = expected_output(tokenise(PROMPT), 120, ignore_eos=True)
    body = {"prompt": prompt, "max_tokens": 120, "ignore_eos": True, "return_token_ids": True}
    async with serve() as (client, _):
        found = await stream(client, COMPLETIONS, body)
    assert (found.text, tuple(found.ids), found.done) == (uncut.text, uncut.ids, True)
    assert found.finish == ("length", None)
    prompts = [choice["prompt_token_ids"] for choice in found.choices]
    assert prompts == [tokenise(PROMPT)] + [None] * 119
    assert any(choice["text"] == "" for choice in found.choices), "text is held back somewhere"


async def test_a_streamed_chat_opens_with_one_role_and_the_prompt_ids(serve: Serve) -> None:
    prompt = chat_prompt(MESSAGES)
    uncut = expected_output(prompt, 60, ignore_eos=True)
    body = {
        "messages": MESSAGES, "max_tokens": 60, "ignore_eos": True, "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    async with serve() as (client, _):
        found = await stream(client, CHAT, body)
    first, *rest, last = found.events
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert first["prompt_token_ids"] == prompt
    assert all("prompt_token_ids" not in event for event in rest)
    assert (found.text, tuple(found.ids)) == (uncut.text, uncut.ids)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": len(prompt),
        "total_tokens": len(prompt) + 60,
        "completion_tokens": 60,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


async def test_ids_and_usage_are_sent_only_when_asked_for(serve: Serve) -> None:
    async with serve() as (client, _):
        found = await stream(client, COMPLETIONS, {"prompt": PROMPT, "max_tokens": 5})
    assert all(choice["token_ids"] is None for choice in found.choices)
    assert all("usage" not in event for event in found.events)
    assert len({event["id"] for event in found.events}) == 1


async def test_continuous_usage_counts_up(serve: Serve) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"prompt": PROMPT, "max_tokens": 4, "ignore_eos": True, "stream_options": options}
    async with serve() as (client, _):
        found = await stream(client, COMPLETIONS, body)
    counts = [event["usage"]["completion_tokens"] for event in found.events]
    assert counts == [1, 2, 3, 4, 4]


async def test_unstreamed_answers_carry_text_ids_and_usage(serve: Serve) -> None:
    async with serve() as (client, _):
        body = {"prompt": PROMPT, "max_tokens": 9, "ignore_eos": True, "return_token_ids": True}
        completion = (await client.post(COMPLETIONS, json=body)).json()
        del body["prompt"]
        chat = (await client.post(CHAT, json={**body, "messages": MESSAGES})).json()
    uncut = expected_output(tokenise(PROMPT), 9, ignore_eos=True)
    choice = completion["choices"][0]
    assert (choice["text"], tuple(choice["token_ids"])) == (uncut.text, uncut.ids)
    assert choice["prompt_token_ids"] == tokenise(PROMPT)
    assert completion["usage"]["completion_tokens"] == 9
    uncut = expected_output(chat_prompt(MESSAGES), 9, ignore_eos=True)
    message = chat["choices"][0]["message"]
    unused = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
    assert message == {"role": "assistant", "content": uncut.text, **unused}
    assert chat["prompt_token_ids"] == chat_prompt(MESSAGES)
    assert chat["object"] == "chat.completion"


async def test_completions_end_after_16_tokens_and_chat_fills_the_context(serve: Serve) -> None:
    async with serve("--max-length", "100") as (client, _):
        body: dict[str, Any] = {"prompt": PROMPT, "ignore_eos": True}
        completion = (await client.post(COMPLETIONS, json=body)).json()
        body = {"messages": MESSAGES, "ignore_eos": True}
        chat = (await client.post(CHAT, json=body)).json()
    assert completion["usage"]["completion_tokens"] == 16
    assert chat["usage"]["total_tokens"] == 100


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param({"max_tokens": 0}, 400, "at least 1, got 0", id="max_tokens 0"),
        pytest.param({"min_tokens": 9, "max_tokens": 8}, 400, "max_tokens=8", id="min over max"),
        pytest.param({"prompt": "a" * 500}, 400, "maximum context length is 200", id="too long"),
        pytest.param({"max_tokens": 199}, 400, "maximum context length", id="prompt and output"),
        pytest.param({"model": "other"}, 404, "`other` does not exist", id="another model"),
        pytest.param({"prompt": []}, 400, "cannot be empty", id="no prompt"),
        pytest.param({"prompt": [10**6]}, 400, "out of vocabulary", id="unknown id"),
        pytest.param({"n": 2, "temperature": 0}, 400, "greedy", id="several greedy answers"),
        pytest.param({"n": 0}, 400, "at least 1", id="no answer"),
        pytest.param({"logprobs": 99}, 400, "max allowed", id="too many logprobs"),
        pytest.param({"prompt": [["a"]]}, 400, "list of either", id="a nested prompt"),
        pytest.param({"logit_bias": [1]}, 400, "logit_bias", id="bias as a list"),
        pytest.param(
            {"stream_options": {"include_usage": True}}, 400, "stream=True", id="options unstreamed"
        ),
        pytest.param({"max_tokens": "many"}, 400, "whole number", id="max_tokens as text"),
        pytest.param({"stop": [""]}, 400, "stop must be", id="an empty stop string"),
        pytest.param({"stop_token_ids": 5}, 400, "stop_token_ids", id="stop ids as a number"),
    ],
)
async def test_refusals_say_what_is_wrong_in_the_shape_of_openai(
    serve: Serve, body: dict[str, Any], status: int, words: str
) -> None:
    async with serve("--max-length", "200") as (client, _):
        answer = await client.post(COMPLETIONS, json={"prompt": PROMPT, **body})
        healthy = await client.get("/health")
    assert answer.status_code == status
    error = answer.json()["error"]
    assert words in error["message"]
    assert error["code"] == status
    assert {"message", "type", "param", "code"} == set(error)
    assert healthy.status_code == 200


async def test_unknown_fields_are_ignored(serve: Serve) -> None:
    async with serve() as (client, _):
        body = {"prompt": PROMPT, "max_tokens": 3, "watermark": True, "temperature": 0.7}
        assert (await client.post(COMPLETIONS, json=body)).status_code == 200


@pytest.mark.parametrize("chat", [False, True])
async def test_a_stop_string_ends_the_text_before_it(serve: Serve, chat: bool) -> None:
    prompt = chat_prompt(MESSAGES) if chat else tokenise(PROMPT)
    uncut = expected_output(prompt, 60, ignore_eos=True).text
    stop = uncut[50:58]
    body: dict[str, Any] = {"messages": MESSAGES} if chat else {"prompt": PROMPT}
    body |= {"max_tokens": 60, "ignore_eos": True, "stop": [stop, "never seen"]}
    async with serve() as (client, engine):
        found = await stream(client, CHAT if chat else COMPLETIONS, body)
        kept = await stream(
            client, CHAT if chat else COMPLETIONS, {**body, "include_stop_str_in_output": True}
        )
        assert engine.batch.pool.used == 0
    assert found.text == uncut[: uncut.index(stop)]
    assert kept.text == uncut[: uncut.index(stop) + len(stop)]
    assert found.finish == ("stop", stop)
    assert found.done


async def test_the_end_of_text_ends_the_answer_and_has_no_text(serve: Serve) -> None:
    prompt = tokenise(PROMPT)
    natural = expected_output(prompt, 4000)
    async with serve() as (client, _):
        body = {"prompt": prompt, "max_tokens": 4000, "return_token_ids": True}
        found = await stream(client, COMPLETIONS, body)
    assert (found.text, tuple(found.ids)) == (natural.text, natural.ids)
    assert found.finish == ("stop", None)


async def test_several_tokens_may_share_an_event(serve: Serve) -> None:
    uncut = expected_output(tokenise(PROMPT), 80, ignore_eos=True)
    body = {"prompt": PROMPT, "max_tokens": 80, "ignore_eos": True, "return_token_ids": True}
    async with serve("--coalesce-percent", "40") as (client, _):
        found = await stream(client, COMPLETIONS, body)
    assert (found.text, tuple(found.ids)) == (uncut.text, uncut.ids)
    assert max(len(choice["token_ids"]) for choice in found.choices) > 1


async def test_a_client_that_leaves_frees_its_memory_at_once(serve: Serve) -> None:
    body = {"prompt": PROMPT, "max_tokens": 5000, "ignore_eos": True, "stream": True}
    async with serve("--max-length", "8000") as (client, engine):
        async with client.stream("POST", COMPLETIONS, json=body) as response:
            await anext(response.aiter_raw())
            assert engine.batch.pool.used > 0
        async with asyncio.timeout(5):
            await engine.drained()
        assert engine.batch.pool.used == 0
        assert engine.metrics.finished["abort"] == 0


async def test_an_idle_connection_is_closed_without_notice(serve: Serve) -> None:
    async with serve("--timeout-keep-alive", "0.05") as (client, _):
        await client.get("/health")
        port = client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection:" not in answer


async def test_tokenize_and_detokenize_agree_with_the_model(serve: Serve) -> None:
    async with serve() as (client, _):
        text = (await client.post("/tokenize", json={"prompt": "the 日 river"})).json()
        chat = (await client.post("/tokenize", json={"messages": MESSAGES})).json()
        back = (await client.post("/detokenize", json={"tokens": text["tokens"]})).json()
        wrong = await client.post("/detokenize", json={"tokens": [10**7]})
    assert text["count"] == len(text["tokens"])
    assert chat["tokens"] == chat_prompt(MESSAGES)
    assert back == {"prompt": "the 日 river"}
    assert wrong.status_code == 400


async def test_models_version_and_unknown_paths(serve: Serve) -> None:
    async with serve("--max-length", "4096") as (client, _):
        models = (await client.get("/v1/models")).json()
        version = await client.get("/version")
        unknown = await client.get("/v2/models")
        method = await client.get(COMPLETIONS)
        faults = await client.get("/simulator/faults")
    assert models["data"][0]["id"] == "demo"
    assert models["data"][0]["max_model_len"] == 4096
    assert version.status_code == 200
    assert [unknown.status_code, method.status_code, faults.status_code] == [404, 405, 404]


async def test_metrics_tell_what_was_done_under_vllms_names(serve: Serve) -> None:
    body = {"prompt": PROMPT * 20, "max_tokens": 10, "ignore_eos": True}
    async with serve() as (client, _):
        for _repeat in range(2):
            await client.post(COMPLETIONS, json=body)
        text = (await client.get("/metrics")).text
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    labels = '{engine="0",model_name="demo"}'
    prompt = len(tokenise(PROMPT * 20))
    assert float(samples[f"vllm:prompt_tokens_total{labels}"]) == 2 * prompt
    assert float(samples[f"vllm:generation_tokens_total{labels}"]) == 20
    assert float(samples[f"vllm:prefix_cache_hits_total{labels}"]) == (prompt - 1) // 16 * 16
    assert float(samples[f"vllm:kv_cache_usage_perc{labels}"]) == 0
    assert samples[f"vllm:time_to_first_token_seconds_count{labels}"] == "2"
    assert samples[f"vllm:inter_token_latency_seconds_count{labels}"] == "18"
    finished = 'vllm:request_success_total{engine="0",model_name="demo",finished_reason="length"}'
    assert float(samples[finished]) == 2
    assert 'vllm:cache_config_info{block_size="16",enable_prefix_caching="True"' in text


async def test_garbage_is_answered_and_the_engine_goes_on(serve: Serve) -> None:
    async with serve() as (client, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"this is no HTTP\r\n\r\n")
        assert b"400 Bad Request" in await reader.read()
        writer.close()
        broken = await client.post(COMPLETIONS, content=b"{", headers={"content-type": "a/b"})
        assert broken.status_code == 400
        assert (await client.get("/health")).status_code == 200


async def test_requests_sent_ahead_on_one_connection_are_answered_in_order(serve: Serve) -> None:
    async with serve() as (client, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        body = b'{"prompt":"the river","max_tokens":3}'
        head = b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"
        last = b"GET /version HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
        writer.write((head % len(body) + body) * 2 + last)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 200 OK") == 3
    assert answer.endswith(b'{"version":"0.32.0"}')


async def test_an_answer_resumed_on_another_engine_joins_exactly(serve: Serve) -> None:
    prompt = tokenise(PROMPT)
    uncut = expected_output(prompt, 60, ignore_eos=True)
    fields = {"ignore_eos": True, "return_token_ids": True}
    async with serve() as (first, _), serve() as (second, _):
        body = {"prompt": prompt, "max_tokens": 60, **fields}
        whole = await stream(first, COMPLETIONS, body)
        # A clean point: one id, some text.
        cut = next(n for n, choice in enumerate(whole.choices) if n > 20 and choice["text"]) + 1
        left = "".join(choice["text"] for choice in whole.choices[:cut])
        resumed = await stream(
            second,
            COMPLETIONS,
            {"prompt": prompt + whole.ids[:cut], "max_tokens": 60 - cut, **fields},
        )
    assert tuple(whole.ids[:cut] + resumed.ids) == uncut.ids
    assert left + resumed.text == uncut.text
    assert detokenise(uncut.ids[:cut]) == left
