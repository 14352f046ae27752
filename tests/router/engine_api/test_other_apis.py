"""Responses, Messages, Embeddings and questions through one sidecar and through two."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import APIError, AsyncOpenAI

from e2e.engine_simulator.embeddings import vector
from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt, detokenise, tokenise
from tests.router.core.cluster import MODEL, Cluster, cluster, light_client, stage_map, until
from tests.router.core.loop import on_uvloop

RESPONSES, MESSAGES, EMBEDDINGS = "/v1/responses", "/v1/messages", "/v1/embeddings"
CONVERSATION = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "the river"}]
PROMPT = chat_prompt(CONVERSATION)
TOKENS = 60
BODIES: dict[str, dict[str, Any]] = {
    RESPONSES: {
        "model": MODEL,
        "instructions": "be kind",
        "input": "the river",
        "max_output_tokens": TOKENS,
    },
    MESSAGES: {
        "model": MODEL,
        "system": "be kind",
        "messages": CONVERSATION[1:],
        "max_tokens": TOKENS,
    },
}
LAST = {RESPONSES: "response.completed", MESSAGES: "message_stop"}
HOPS = pytest.mark.parametrize("own", [True, False], ids=["one hop", "two hops"])
BOTH = pytest.mark.parametrize("path", BODIES)

Event = tuple[str, dict[str, Any]]


def text_of(path: str, body: dict[str, Any]) -> str:
    """The text of an unstreamed answer."""
    content = body["content"] if path == MESSAGES else body["output"][0]["content"]
    return str(content[0]["text"])


def streamed_text(events: list[Event]) -> str:
    """The text of a stream."""
    texts = []
    for name, data in events:
        if name == "content_block_delta":
            texts.append(data["delta"]["text"])
        elif name == "response.output_text.delta":
            texts.append(data["delta"])
    return "".join(texts)


def parsed(content: bytes) -> list[Event]:
    """(name, data) of each event."""
    assert content.endswith(b"\n\n")
    found = []
    for event in content[:-2].split(b"\n\n"):
        name, data = event.split(b"\n")
        assert name.startswith(b"event: ")
        found.append((name[7:].decode(), json.loads(data[6:])))
    return found


async def send(
    url: str, path: str, body: dict[str, Any] | None = None, **more: Any
) -> httpx.Response:
    """A request and its whole answer."""
    async with light_client() as client:
        return await client.post(url + path, json={**(body or BODIES[path]), **more})


@HOPS
@BOTH
@on_uvloop
async def test_a_stream_passes_untouched_and_is_counted(
    tmp_path: Path, path: str, own: bool
) -> None:
    """It outgrows its stage and is not handed over."""
    want = expected_output(PROMPT, TOKENS)
    async with cluster(tmp_path, [0, 1], stage_map(len(PROMPT) + 20)) as service:
        got = await send(service[0 if own else 1].url, path, stream=True)
        events = parsed(got.content)
        assert got.headers["content-type"].startswith("text/event-stream")
        assert (streamed_text(events), events[-1][0]) == (want.text, LAST[path])
        assert got.headers["x-cascade-instance"] == "pod-0"
        assert got.headers["x-cascade-stage"] == "0"
        assert got.headers["x-cascade-pinned"] == "other-path"
        assert got.headers["x-request-id"]
        await service.settle()
        assert service.metric("cascade_requests_total", outcome="completed") == 1
        assert service.metric("cascade_pinned_requests_total", reason="other-path") == 1
        assert service.metric("cascade_request_prompt_tokens_sum") == len(PROMPT)
        assert service.metric("cascade_request_final_tokens_sum") == len(PROMPT) + len(want.ids)
        assert service.metric("cascade_time_to_first_token_seconds_count") == 1
        assert service.metric("cascade_handovers_total") == 0


@HOPS
@BOTH
@on_uvloop
async def test_an_unstreamed_answer_passes_untouched(tmp_path: Path, path: str, own: bool) -> None:
    want = expected_output(PROMPT, TOKENS)
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        got = await send(service[0 if own else 1].url, path)
        assert text_of(path, got.json()) == want.text
        assert got.headers["x-cascade-pinned"] == "other-path"
        assert got.headers["x-cascade-instance"] == "pod-0"
        await service.settle()
        assert service.metric("cascade_request_final_tokens_sum") == len(PROMPT) + len(want.ids)


@BOTH
@on_uvloop
async def test_a_long_conversation_goes_to_its_stage(tmp_path: Path, path: str) -> None:
    field = "instructions" if path == RESPONSES else "system"
    async with cluster(tmp_path, [0, 1], stage_map(200)) as service:
        short = await send(service[0].url, path)
        body = {**BODIES[path], field: "a river of words " * 200}
        long = await send(service[0].url, path, body)
        assert short.headers["x-cascade-stage"] == "0"
        assert long.headers["x-cascade-stage"] == "1"


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "unstreamed"])
@on_uvloop
async def test_before_the_first_byte_it_is_run_again_elsewhere(
    tmp_path: Path, stream: bool
) -> None:
    want = expected_output(PROMPT, TOKENS)
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        service[0].engine.faults.hang = True
        waiting = asyncio.create_task(send(service[1].url, MESSAGES, stream=stream))
        await until(lambda: bool(service[0].engine.batch.waiting), "the first one has it")
        await service[0].kill_engine()
        got = await waiting
        text = streamed_text(parsed(got.content)) if stream else text_of(MESSAGES, got.json())
        assert text == want.text
        assert got.headers["x-cascade-instance"] == "pod-1"


@BOTH
@on_uvloop
async def test_after_the_first_byte_a_loss_is_told_in_the_stream(tmp_path: Path, path: str) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 10
        got = await send(service[0].url, path, stream=True)
        *events, (name, data) = parsed(got.content)
        want = expected_output(PROMPT, TOKENS).text
        assert want.startswith(streamed_text(events))
        assert streamed_text(events)
        assert (name, data["type"]) == ("error", "error")
        assert "it is pinned" in data["error"]["message"]
        assert data["error"]["type"] == ("api_error" if path == MESSAGES else "upstream_error")
        await service.settle()
        assert service.metric("cascade_requests_total", outcome="failed") == 1


@on_uvloop
async def test_the_official_client_raises_what_is_told_in_the_stream(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 10
        client = AsyncOpenAI(base_url=f"{service[0].url}/v1", api_key="none", max_retries=0)
        events = await client.responses.create(
            model=MODEL, input="the river", max_output_tokens=50, stream=True
        )
        with pytest.raises(APIError, match="it is pinned"):
            async for _ in events:
                pass
        await client.close()


@pytest.mark.parametrize(
    ("path", "change", "status", "kind", "words"),
    [
        pytest.param(
            MESSAGES, {"kv_transfer_params": {}}, 400, "invalid_request_error",
            "kv_transfer_params", id="a field that steers the engine",
        ),
        pytest.param(
            MESSAGES, {"model": "other"}, 404, "NotFoundError", "does not exist",
            id="what the engine refuses",
        ),
        pytest.param(
            MESSAGES + "/count_tokens", {"model": "other"}, 404, "NotFoundError",
            "does not exist", id="a question that the engine refuses",
        ),
        pytest.param(
            RESPONSES, {"model": "other"}, 404, "NotFoundError", "does not exist",
            id="a response that the engine refuses",
        ),
        pytest.param(
            RESPONSES, {"previous_response_id": "resp_1"}, 404, "invalid_request_error",
            "'resp_1' not found: responses are not stored", id="a response of before",
        ),
        pytest.param(
            RESPONSES, {"background": True}, 400, "invalid_request_error",
            "without `background`", id="a response in the background",
        ),
    ],
)  # fmt: skip
@on_uvloop
async def test_errors_have_the_shape_of_their_api(
    tmp_path: Path, path: str, change: dict[str, Any], status: int, kind: str, words: str
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        base = BODIES[RESPONSES if path == RESPONSES else MESSAGES]
        got = await send(service[1].url, path, base, **change)
        assert got.status_code == status
        body = got.json()
        assert words in body["error"]["message"]
        assert body["error"]["type"] == kind
        assert body.get("type") == (None if path == RESPONSES else "error")
        assert ("code" in body["error"]) == (path == RESPONSES)
        await service.settle()


@on_uvloop
async def test_stored_responses_are_not_found_and_the_client_is_told_what_to_do(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
            url = f"{service[0].url}/v1/responses/resp_1{rest}"
            got = await client.request(method, url)
            assert got.status_code == 404
            message = got.json()["error"]["message"]
            assert "Response with id 'resp_1' not found" in message
            assert "send the whole input" in message


@HOPS
@on_uvloop
async def test_embeddings_are_placed_by_length_and_pass_untouched(
    tmp_path: Path, own: bool
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(50)) as service:
        url = service[0 if own else 1].url
        for given, stage in (([7] * 50, "0"), ([7] * 51, "1"), ([[7] * 30, [8] * 30], "1")):
            got = await send(url, EMBEDDINGS, {"model": MODEL, "input": given, "stream": True})
            ids = [given] if isinstance(given[0], int) else given
            vectors = [one["embedding"] for one in got.json()["data"]]
            assert vectors == [vector(one) for one in ids]  # type: ignore[arg-type]
            assert (got.headers["x-cascade-stage"], got.headers["x-cascade-pinned"]) == (
                stage,
                "other-path",
            )
        await service.settle()
        assert service.metric("cascade_request_prompt_tokens_sum") == 50 + 51 + 60
        assert service.metric("cascade_request_final_tokens_sum") == 50 + 51 + 60


@on_uvloop
async def test_embeddings_are_made_elsewhere_when_their_engine_dies(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        service[0].engine.faults.hang = True
        body = {"model": MODEL, "input": "the river"}
        waiting = asyncio.create_task(send(service[1].url, EMBEDDINGS, body))
        await until(lambda: bool(service[0].engine.batch.waiting), "the first one has it")
        await service[0].kill_engine()
        got = await waiting
        assert got.json()["data"][0]["embedding"] == vector(tokenise("the river"))
        assert got.headers["x-cascade-instance"] == "pod-1"


QUESTIONS = [
    pytest.param("GET", "/v1/models", None, id="models"),
    pytest.param("POST", "/tokenize", {"prompt": "the river"}, id="tokens of a text"),
    pytest.param("POST", "/detokenize", {"tokens": [300, 301]}, id="the text of tokens"),
    pytest.param("POST", MESSAGES + "/count_tokens", BODIES[MESSAGES], id="a count of tokens"),
]


def answered(path: str, body: dict[str, Any]) -> bool:
    """Whether a question got the answer that the engines here give."""
    if path == "/v1/models":
        return bool(body["data"][0]["id"] == MODEL)
    if path == "/tokenize":
        return bool(body["tokens"] == tokenise("the river"))
    if path == "/detokenize":
        return bool(body["prompt"] == detokenise([300, 301]))
    return bool(body["input_tokens"] == len(PROMPT))


async def put(service: Cluster, method: str, path: str, body: Any) -> httpx.Response:
    """A question to the first instance."""
    async with light_client() as client:
        return await client.request(method, service[0].url + path, json=body)


@pytest.mark.parametrize(("method", "path", "body"), QUESTIONS)
@on_uvloop
async def test_a_question_is_answered_by_the_own_engine_or_else_by_another(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        got = await put(service, method, path, body)
        assert answered(path, got.json())
        assert got.headers["x-cascade-instance"] == "pod-0"
        assert got.headers["x-cascade-stage"] == "0"

        await service[0].kill_engine()
        # Whether its death is found out by asking or known already.
        own = service[0].sidecar.tools.own
        for _ in range(2):
            got = await put(service, method, path, body)
            assert answered(path, got.json())
            assert got.headers["x-cascade-instance"] == "pod-1"
            await until(lambda: not own.healthy, "the engine's death is seen")

        await service[1].kill_engine()
        got = await put(service, method, path, body)
        error = got.json()["error"]
        assert got.status_code in (502, 503)
        assert "code" in error or got.json()["type"] == "error"
        await service.settle()
        assert service.metric("cascade_requests_total") == 0


@on_uvloop
async def test_without_any_other_instance_the_client_is_told_to_come_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        await service[0].kill_engine()
        own = service[0].sidecar.tools.own
        await until(lambda: not own.healthy, "the engine's death is seen")
        got = await put(service, "GET", "/v1/models", None)
        assert (got.status_code, got.headers["retry-after"]) == (503, "1")
        assert "no instance is ready" in got.json()["error"]["message"]
