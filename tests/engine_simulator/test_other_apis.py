"""Responses, Messages and Embeddings: their shapes, and that the answers are those of the model."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from e2e.engine_simulator import messages_api, responses_api
from e2e.engine_simulator.embeddings import DIMENSIONS, vector
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt, tokenise
from tests.engine_simulator.conftest import Serve

RESPONSES, MESSAGES, EMBEDDINGS = "/v1/responses", "/v1/messages", "/v1/embeddings"
RESPONSE = {"instructions": "be kind", "input": "the river", "max_output_tokens": 40}
MESSAGE: dict[str, Any] = {
    "model": "demo",
    "system": [{"type": "text", "text": "be kind"}],
    "messages": [{"role": "user", "content": "the river"}],
    "max_tokens": 40,
}
CONVERSATION = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the river"}]


async def events(
    client: httpx.AsyncClient, path: str, body: dict[str, Any]
) -> list[tuple[str, dict[str, Any]]]:
    """(name, data) of each event of a stream."""
    answer = await client.post(path, json={"stream": True, **body})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content.endswith(b"\n\n")
    found = []
    for event in answer.content[:-2].split(b"\n\n"):
        name, data = event.split(b"\n")
        found.append((name.decode().removeprefix("event: "), json.loads(data[6:])))
    return found


async def test_a_streamed_response_has_the_events_of_one_message(serve: Serve) -> None:
    uncut = expected_output(chat_prompt(CONVERSATION), 40, ignore_eos=True)
    async with serve() as (client, engine):
        found = await events(client, RESPONSES, {**RESPONSE, "ignore_eos": True})
        assert engine.batch.pool.used == 0
    names = [name for name, _ in found]
    deltas = [data["delta"] for name, data in found if name == "response.output_text.delta"]
    assert names == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * len(deltas),
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(deltas) == uncut.text
    assert "" not in deltas
    assert [data["type"] for _, data in found] == names
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    last = found[-1][1]["response"]
    assert (last["status"], last["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert last["output"][0]["content"][0]["text"] == uncut.text
    assert last["usage"]["output_tokens"] == 40
    assert last["usage"]["input_tokens"] == len(chat_prompt(CONVERSATION))


async def test_an_unstreamed_response_is_the_uncut_answer(serve: Serve) -> None:
    natural = expected_output(chat_prompt(CONVERSATION), 4000)
    async with serve() as (client, _):
        body = {**RESPONSE, "max_output_tokens": 4000, "request_id": "resp_1"}
        answer = (await client.post(RESPONSES, json=body)).json()
    assert answer["output"][0]["content"][0]["text"] == natural.text
    assert (answer["id"], answer["status"], answer["object"]) == ("resp_1", "completed", "response")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        pytest.param({"previous_response_id": "resp_0"}, 404, "resp_0", id="a stored response"),
        pytest.param({"background": True}, 400, "background", id="a background response"),
        pytest.param({"input": []}, 400, "input must be", id="no input"),
        pytest.param({"input": ["x"]}, 400, "must be an object", id="an item that is no object"),
        pytest.param({"model": "other"}, 404, "does not exist", id="another model"),
    ],
)
async def test_responses_that_are_refused(
    serve: Serve, body: dict[str, Any], status: int, words: str
) -> None:
    async with serve() as (client, _):
        answer = await client.post(RESPONSES, json={**RESPONSE, **body})
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]


async def test_a_limit_beyond_the_context_is_cut(serve: Serve) -> None:
    async with serve("--max-length", "100") as (client, _):
        body = {**RESPONSE, "max_output_tokens": 1000, "ignore_eos": True}
        answer = (await client.post(RESPONSES, json=body)).json()
    assert answer["usage"]["total_tokens"] == 100


async def test_a_streamed_message_has_the_events_of_one_block(serve: Serve) -> None:
    prompt = chat_prompt(CONVERSATION)
    uncut = expected_output(prompt, 40)
    async with serve() as (client, _):
        found = await events(client, MESSAGES, MESSAGE)
    names = [name for name, _ in found]
    deltas = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    assert names == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * len(deltas),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(deltas) == uncut.text
    assert found[0][1]["message"]["usage"] == {"input_tokens": len(prompt), "output_tokens": 0}
    last = found[-2][1]
    assert last["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert last["usage"]["output_tokens"] == 40


async def test_an_unstreamed_message_ends_at_a_stop_sequence(serve: Serve) -> None:
    uncut = expected_output(chat_prompt(CONVERSATION), 40).text
    stop = uncut[30:36]
    async with serve() as (client, _):
        body = {**MESSAGE, "stop_sequences": [stop]}
        answer = (await client.post(MESSAGES, json=body)).json()
    assert answer["content"] == [{"type": "text", "text": uncut[: uncut.index(stop)]}]
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("stop_sequence", stop)
    assert (answer["type"], answer["role"]) == ("message", "assistant")


async def test_the_end_of_text_ends_a_message(serve: Serve) -> None:
    prompt = chat_prompt(CONVERSATION)
    natural = expected_output(prompt, 4000)
    async with serve() as (client, _):
        for _repeat in range(2):
            answer = await client.post(MESSAGES, json={**MESSAGE, "max_tokens": 4000})
    body = answer.json()
    assert body["content"][0]["text"] == natural.text
    assert (body["stop_reason"], "stop_sequence" in body) == ("end_turn", False)
    usage = body["usage"]
    assert usage["cache_read_input_tokens"] > 0
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len(prompt)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param({"max_tokens": None}, "max_tokens is required", id="no limit"),
        pytest.param({"model": None}, "model is required", id="no model"),
        pytest.param({"messages": []}, "not empty", id="no messages"),
        pytest.param({"max_tokens": 10**6}, "max_model_len", id="more than the context holds"),
    ],
)
async def test_messages_that_are_refused(serve: Serve, body: dict[str, Any], words: str) -> None:
    async with serve() as (client, _):
        answer = await client.post(MESSAGES, json={**MESSAGE, **body})
    assert answer.status_code == 400
    assert answer.json()["type"] == "error"
    assert words in answer.json()["error"]["message"]


async def test_tokens_are_counted_as_a_message_would_be(serve: Serve) -> None:
    async with serve() as (client, _):
        answer = await client.post(MESSAGES + "/count_tokens", json=MESSAGE)
    count = len(chat_prompt(CONVERSATION))
    assert answer.json() == {
        "input_tokens": count,
        "context_management": {"original_input_tokens": count},
    }


def test_parts_and_results_of_tools_are_read() -> None:
    text = {"type": "text", "text": "see"}
    result = {"type": "tool_result", "tool_use_id": "1", "content": "42"}
    assert messages_api.chat_messages(
        {"messages": [{"role": "user", "content": [result, text]}]}
    ) == [
        {"role": "tool", "content": "42"},
        {"role": "user", "content": [text]},
    ]
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "see"}]},
        {"type": "function_call_output", "call_id": "1", "output": "42"},
    ]
    assert responses_api.chat_messages({"input": items}) == [
        {"role": "user", "content": [text]},
        {"role": "tool", "content": "42"},
    ]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        pytest.param("the river", ["the river"], id="a text"),
        pytest.param(["the river", "a word"], ["the river", "a word"], id="several texts"),
        pytest.param(tokenise("the river"), ["the river"], id="ids"),
        pytest.param([tokenise("the river"), tokenise("a")], ["the river", "a"], id="lists of ids"),
    ],
)
async def test_an_embedding_is_a_vector_of_its_ids(
    serve: Serve, given: Any, texts: list[str]
) -> None:
    async with serve() as (client, engine):
        answer = (await client.post(EMBEDDINGS, json={"input": given})).json()
        await engine.drained()
    assert [one["embedding"] for one in answer["data"]] == [vector(tokenise(t)) for t in texts]
    assert [one["index"] for one in answer["data"]] == list(range(len(texts)))
    assert answer["usage"]["prompt_tokens"] == sum(len(tokenise(text)) for text in texts)
    assert len(answer["data"][0]["embedding"]) == DIMENSIONS


def test_vectors_have_length_one_and_differ() -> None:
    first, second = vector([1, 2, 3]), vector([1, 2, 4])
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-6)
    assert first != second
    assert len(vector([1], 256)) == 256


async def test_empty_and_endless_inputs_are_refused(serve: Serve) -> None:
    async with serve("--max-length", "20") as (client, _):
        cases: list[Any] = ["", "word " * 30, []]
        for given in cases:
            answer = await client.post(EMBEDDINGS, json={"input": given})
            assert (given, answer.status_code) == (given, 400)


async def test_the_official_client_reads_responses_and_embeddings(serve: Serve) -> None:
    uncut = expected_output(chat_prompt([{"role": "user", "content": "the river"}]), 30)
    async with serve() as (http, _):
        client = AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key="none")
        whole = await client.responses.create(
            model="demo", input="the river", max_output_tokens=30, store=False
        )
        stream = await client.responses.create(
            model="demo", input="the river", max_output_tokens=30, stream=True
        )
        kinds = [event.type async for event in stream]
        embedded = await client.embeddings.create(model="demo", input=["the river"])
        await client.close()
    assert whole.output_text == uncut.text
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert embedded.data[0].embedding == pytest.approx(vector(tokenise("the river")))


async def test_administration_is_written_down(serve: Serve) -> None:
    async with serve("--allow-faults") as (client, _):
        await client.post("/pause")
        await client.post("/%76%31/load_lora_adapter?x=1", json={})
        calls = (await client.get("/simulator/administration")).json()["calls"]
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        async with asyncio.timeout(5):
            nothing = await reader.read()
        writer.close()
    assert calls == ["POST /pause", "POST /v1/load_lora_adapter"]
    assert nothing.startswith(b"HTTP/1.1 404 ")
