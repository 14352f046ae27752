"""Requests through one sidecar and through two: what the client gets is what the engine says."""

import asyncio
import json
from pathlib import Path

import pytest

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt
from tests.router.core.cluster import MODEL, cluster, light_client, stage_map, stream, until
from tests.router.core.loop import on_uvloop

PROMPT = [300, 301, 302, 303]
MESSAGES = [{"role": "user", "content": "tell me about the weather in 東京"}]
HOPS = pytest.mark.parametrize("own", [True, False], ids=["one hop", "two hops"])


@HOPS
@on_uvloop
async def test_a_streamed_completion_is_the_engines_own(tmp_path: Path, own: bool) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        front = service[0] if own else service[1]
        want = expected_output(PROMPT, 60, ignore_eos=True)
        body = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}
        got = await stream(front.url, "/v1/completions", body)
        assert (got.text, got.finish, got.done) == (want.text, ["length"], True)
        assert got.ids == ()
        assert got.headers["x-cascade-instance"] == "pod-0"
        assert got.headers["x-cascade-stage"] == "0"
        assert "x-cascade-pinned" not in got.headers
        await service.settle()
        assert service.metric("cascade_requests_total", outcome="completed") == 1
        assert service.metric("cascade_request_prompt_tokens_sum") == len(PROMPT)
        assert service.metric("cascade_request_final_tokens_sum") == len(PROMPT) + 60
        assert service.metric("cascade_decode_tokens_total") == 60


@HOPS
@on_uvloop
async def test_a_streamed_chat_is_the_engines_own(tmp_path: Path, own: bool) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        front = service[0] if own else service[1]
        want = expected_output(chat_prompt(MESSAGES), 60)
        body = {
            "messages": MESSAGES,
            "max_completion_tokens": 60,
            "return_token_ids": True,
            "stream_options": {"include_usage": True},
        }
        got = await stream(front.url, "/v1/chat/completions", body)
        assert (got.text, got.ids, got.finish) == (want.text, want.ids, [want.finish_reason])
        assert got.events[0]["prompt_token_ids"] == chat_prompt(MESSAGES)
        assert [usage["completion_tokens"] for usage in got.usage] == [len(want.ids)]
        await service.settle()


@HOPS
@on_uvloop
async def test_an_unstreamed_answer_passes_untouched(tmp_path: Path, own: bool) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        front = service[0] if own else service[1]
        want = expected_output(PROMPT, 30)
        async with light_client() as client:
            response = await client.post(
                front.url + "/v1/completions",
                json={"model": MODEL, "prompt": PROMPT, "max_tokens": 30},
            )
        assert response.json()["choices"][0]["text"] == want.text
        assert response.headers["x-cascade-handovers"] == "0"
        assert response.headers["x-cascade-pinned"] == "unstreamed"
        await service.settle()
        final = service.metric("cascade_request_final_tokens_sum")
        assert final == len(PROMPT) + len(want.ids)
        assert service.metric("cascade_pinned_requests_total", reason="unstreamed") == 1


@on_uvloop
async def test_a_pinned_stream_passes_untouched_and_is_not_handed_over(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(20)) as service:
        want = expected_output(PROMPT, 60)
        body = {"prompt": PROMPT, "max_tokens": 60, "stop": ["never in the text"]}
        got = await stream(service[0].url, "/v1/completions", body)
        assert (got.text, got.headers["x-cascade-pinned"]) == (want.text, "stop")
        await service.settle()
        assert service.metric("cascade_handovers_total") == 0
        assert service.metric("cascade_request_final_tokens_sum") == len(PROMPT) + len(want.ids)


CASES = [
    pytest.param("GET", "/v1/nothing", None, 404, "there is no", id="an unknown path"),
    pytest.param("POST", "/v1/load_lora_adapter", b"{}", 404, "there is no", id="administration"),
    pytest.param("POST", "/_cascade/bid", b"{}", 404, "there is no", id="a path for peers only"),
    pytest.param("GET", "/v1/completions", None, 405, "is for POST", id="the wrong method"),
    pytest.param("POST", "/metrics", b"{}", 405, "is for GET", id="a post to metrics"),
    pytest.param("POST", "/v1/completions", b"[1]", 400, "JSON object", id="no object"),
    pytest.param("POST", "/v1/completions", b'{"a":', 400, "JSON object", id="half a body"),
    pytest.param(
        "POST", "/v1/completions", b'{"prompt":[1],"kv_transfer_params":{"a":1}}',
        400, "kv_transfer_params", id="a field that steers the engine",
    ),
    pytest.param(
        "POST", "/v1/completions", b'{"prompt":[],"stream":true}',
        400, "cannot be empty", id="what the engine refuses",
    ),
    pytest.param(
        "POST", "/v1/completions", b'{"model":"other","prompt":[5]}',
        404, "does not exist", id="a model that is not served",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), CASES)
@on_uvloop
async def test_errors_have_the_openai_shape(
    tmp_path: Path, method: str, path: str, body: bytes | None, status: int, message: str
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service:
        async with light_client() as client:
            response = await client.request(method, service[1].url + path, content=body)
        assert response.status_code == status
        error = response.json()["error"]
        assert message in error["message"]
        assert error["code"] == status
        await service.settle()
        rejected = service.metric("cascade_requests_total", outcome="rejected")
        assert rejected == (path == "/v1/completions" and status != 405)


@on_uvloop
async def test_models_health_ready_and_metrics_are_served(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        models = await client.get(service[0].url + "/v1/models")
        assert models.json()["data"][0]["id"] == MODEL
        assert (await client.get(service[0].url + "/health")).status_code == 200
        assert (await client.get(service[0].url + "/ready")).status_code == 200
        metrics = await client.get(service[0].url + "/metrics")
        assert 'cascade_requests_in_flight{namespace="ns",service="svc"} 0' in metrics.text
        await service[0].kill_engine()
        await until(lambda: not service[0].sidecar.tools.own.healthy, "the engine's death is seen")
        response = await client.get(service[0].url + "/ready")
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert "engine is not healthy" in response.json()["error"]["message"]


@on_uvloop
async def test_without_a_stage_map_clients_are_told_to_come_back(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        service.stage_map = None
        service.publish()
        async with light_client() as client:
            assert (await client.get(service[0].url + "/ready")).status_code == 503
            response = await client.post(
                service[0].url + "/v1/completions", json={"model": MODEL, "prompt": PROMPT}
            )
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        await service.settle()


@on_uvloop
async def test_a_prompt_goes_to_the_stage_that_covers_it(tmp_path: Path) -> None:
    plan = stage_map(50, 200)
    async with cluster(tmp_path, [0, 1, 2], plan) as service:
        for length, stage in ((50, "0"), (51, "1"), (200, "1"), (201, "2")):
            body = {"prompt": [7] * length, "max_tokens": 1}
            got = await stream(service[0].url, "/v1/completions", body)
            assert (length, got.headers["x-cascade-stage"]) == (length, stage)


@on_uvloop
async def test_a_text_near_a_boundary_is_measured_by_the_engine(tmp_path: Path) -> None:
    prompt = chat_prompt(MESSAGES)
    async with cluster(tmp_path, [0, 1], stage_map(len(prompt) - 1)) as service:
        body = {"messages": MESSAGES, "max_tokens": 5}
        got = await stream(service[0].url, "/v1/chat/completions", body)
        assert got.headers["x-cascade-stage"] == "1"


@on_uvloop
async def test_an_empty_stage_falls_to_its_nearest_neighbour(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0, 2], stage_map(50, 200, 1000)) as service:
        for length, stage in ((100, "2"), (1500, "2"), (10, "0")):
            body = {"prompt": [7] * length, "max_tokens": 1}
            got = await stream(service[0].url, "/v1/completions", body)
            assert (length, got.headers["x-cascade-stage"]) == (length, stage)
        assert service.metric("cascade_out_of_stage_dispatches_total") == 2


@on_uvloop
async def test_many_requests_share_the_instances_of_a_stage(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0, 0], stage_map()) as service:
        bodies = [
            {"prompt": [20 + number, 9], "max_tokens": 40, "ignore_eos": True}
            for number in range(60)
        ]
        answers = await asyncio.gather(
            *(stream(service[0].url, "/v1/completions", body) for body in bodies)
        )
        for body, got in zip(bodies, answers, strict=True):
            want = expected_output(body["prompt"], 40, ignore_eos=True)  # type: ignore[arg-type]
            assert got.text == want.text
        served = [got.headers["x-cascade-instance"] for got in answers]
        assert min(served.count(f"pod-{number}") for number in range(3)) >= 5
        await service.settle()


@on_uvloop
async def test_the_shape_of_chunks_is_the_engines(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        got = await stream(service[0].url, "/v1/chat/completions", {"messages": MESSAGES})
        roles = [choice["delta"].get("role") for choice in got.choices]
        assert roles[0] == "assistant"
        assert set(roles[1:]) == {None}
        assert len({json.dumps([e["id"], e["model"], e["created"]]) for e in got.events}) == 1
