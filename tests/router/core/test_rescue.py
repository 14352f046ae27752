"""Engines and sidecars that die under running requests."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.engine_simulator.next_token import expected_output
from e2e.engine_simulator.vocabulary import chat_prompt
from tests.router.core.cluster import (
    MODEL,
    PATIENT,
    Received,
    cluster,
    light_client,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop

OUTPUT = 60
BODY = {"prompt": [5, 6], "max_tokens": 2}
MESSAGES = [{"role": "user", "content": "count the stars above 東京"}]


@pytest.mark.parametrize("percent", [0, 30], ids=["single ids", "several ids at once"])
@pytest.mark.parametrize("wants_ids", [False, True], ids=["text only", "with ids"])
@on_uvloop
async def test_a_reset_after_any_token_leaves_ids_and_text_whole(
    tmp_path: Path, wants_ids: bool, percent: int
) -> None:
    arguments = ("--coalesce-percent", str(percent))
    async with cluster(tmp_path, [0, 0], stage_map(), *arguments) as service:
        # Both engines reset one stream each: it is lost twice if it comes by the second in time.
        for position in range(1, OUTPUT):
            for instance in service.instances:
                instance.engine.faults.reset_after_tokens = position
                instance.engine.faults.reset_times = 1
            prompt = [270 + position, 301]
            want = expected_output(prompt, OUTPUT, ignore_eos=True)
            body = {
                "prompt": prompt,
                "max_tokens": OUTPUT,
                "ignore_eos": True,
                "return_token_ids": wants_ids,
                "stream_options": {"include_usage": True},
            }
            got = await stream(service[0].url, "/v1/completions", body)
            assert (position, got.text, got.errors) == (position, want.text, [])
            assert got.ids == (want.ids if wants_ids else ())
            assert got.finish == ["length"]
            assert [usage["completion_tokens"] for usage in got.usage] == [OUTPUT]
        await service.settle()
        assert service.metric("cascade_rescues_total", outcome="completed") >= OUTPUT // 2
        assert service.metric("cascade_rescues_total", outcome="failed") == 0


@on_uvloop
async def test_a_chat_survives_the_death_of_its_engine(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0, 0], stage_map()) as service:
        prompt = chat_prompt(MESSAGES)
        want = expected_output(prompt, 200, ignore_eos=True)
        body = {"messages": MESSAGES, "max_tokens": 200, "ignore_eos": True}
        killed = []

        def kill(got: Received) -> None:
            """Kill the serving engine at the 20th event."""
            if len(got.events) == 20:
                name = got.headers["x-cascade-instance"]
                victim = next(i for i in service.instances if i.name == name)
                killed.append(asyncio.ensure_future(victim.kill_engine()))

        got = await stream(service[0].url, "/v1/chat/completions", body, on_event=kill)
        await asyncio.gather(*killed)
        assert (got.text, got.errors, got.finish) == (want.text, [], ["length"])
        assert [choice["delta"].get("role") for choice in got.choices].count("assistant") == 1
        assert len({event["id"] for event in got.events}) == 1
        assert service.metric("cascade_rescues_total", outcome="completed") == 1


@on_uvloop
async def test_a_stream_survives_the_death_of_the_target_sidecar(tmp_path: Path) -> None:
    async with cluster(tmp_path, [1, 0, 0], stage_map(1000)) as service:
        want = expected_output([5, 6, 7], 200, ignore_eos=True)
        body = {"prompt": [5, 6, 7], "max_tokens": 200, "ignore_eos": True}
        stopped = []

        def stop(got: Received) -> None:
            """Stop the serving sidecar at the 20th event."""
            if len(got.events) == 20:
                name = got.headers["x-cascade-instance"]
                victim = next(i for i in service.instances if i.name == name)
                stopped.append(asyncio.ensure_future(victim.sidecar.stop()))

        got = await stream(service[0].url, "/v1/completions", body, on_event=stop)
        await asyncio.gather(*stopped)
        assert (got.text, got.errors) == (want.text, [])
        assert len(stopped) == 1


@on_uvloop
async def test_a_silent_engine_counts_as_lost(tmp_path: Path) -> None:
    timing = replace(PATIENT, stream_idle=1.0)
    async with cluster(tmp_path, [0, 0], stage_map(), timing=timing) as service:
        want = expected_output([5, 6, 7], 100, ignore_eos=True)
        body = {"prompt": [5, 6, 7], "max_tokens": 100, "ignore_eos": True}

        def hang(got: Received) -> None:
            """Hang the serving engine at the 20th event."""
            if len(got.events) == 20:
                name = got.headers["x-cascade-instance"]
                victim = next(i for i in service.instances if i.name == name)
                victim.engine.faults.hang = True

        got = await stream(service[0].url, "/v1/completions", body, on_event=hang)
        assert (got.text, got.errors) == (want.text, [])
        assert service.metric("cascade_rescues_total", outcome="completed") == 1


@on_uvloop
async def test_an_unstreamed_request_is_run_again_elsewhere(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service, light_client() as client:
        want = expected_output([5, 6, 7], 400, ignore_eos=True)
        body = {
            "model": MODEL, "prompt": [5, 6, 7], "max_tokens": 400, "ignore_eos": True
        }  # fmt: skip
        running = asyncio.create_task(client.post(service[0].url + "/v1/completions", json=body))
        await until(
            lambda: any(instance.engine.batch.running for instance in service.instances),
            "the request runs",
        )
        victim = next(i for i in service.instances if i.engine.batch.running)
        await victim.kill_engine()
        response = await running
        assert response.json()["choices"][0]["text"] == want.text


@on_uvloop
async def test_a_pinned_stream_ends_with_an_error_in_band(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 10
        body = {"prompt": [5, 6], "max_tokens": 50, "ignore_eos": True, "stop": ["nowhere"]}
        got = await stream(service[0].url, "/v1/completions", body)
        assert [error["code"] for error in got.errors] == [502]
        assert "pinned" in got.errors[0]["message"]
        assert got.done
        await service.settle()
        assert service.metric("cascade_requests_total", outcome="failed") == 1


@on_uvloop
async def test_engines_that_always_fail_exhaust_the_budget(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0] * 6, stage_map()) as service:
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 3
        body = {"prompt": [5, 6], "max_tokens": 50, "ignore_eos": True}
        got = await stream(service[0].url, "/v1/completions", body)
        assert "4 instances failed" in got.errors[0]["message"]
        assert got.done
        await service.settle()
        assert service.metric("cascade_rescues_total", outcome="failed") == 1
        assert service.metric("cascade_rescues_total", outcome="completed") == 3


@pytest.mark.parametrize("status", [500, 503, 429])
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
@on_uvloop
async def test_an_engine_that_answers_with_an_error_is_passed_over(
    tmp_path: Path, status: int, streamed: bool
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service, light_client() as client:
        body = {"model": MODEL, "prompt": [5, 6], "max_tokens": 5, "stream": streamed}
        service[0].engine.faults.status = status
        for _ in range(6):
            response = await client.post(service[0].url + "/v1/completions", json=body)
            assert response.status_code == 200
        service[1].engine.faults.status = status
        response = await client.post(service[0].url + "/v1/completions", json=body)
        assert response.status_code == status
        assert "retry-after" in response.headers or status == 500
        await service.settle()


@on_uvloop
async def test_without_any_engine_clients_get_503(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service, light_client() as client:
        for instance in service.instances:
            await instance.kill_engine()
        body = {"model": MODEL, "prompt": [5, 6], "max_tokens": 5, "stream": True}
        response = await client.post(service[0].url + "/v1/completions", json=body)
        assert response.status_code in (502, 503)
        await service.settle()


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
@pytest.mark.parametrize("natural", [True, False], ids=["ended by the model", "ended by length"])
@on_uvloop
async def test_an_engine_that_dies_between_its_last_token_and_its_end_changes_nothing(
    tmp_path: Path, path: str, natural: bool
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        messages = [{"role": "user", "content": "the river"}]
        chat = path.endswith("chat/completions")
        prompt = chat_prompt(messages) if chat else [288, 9]
        tokens = 2000 if natural else 30
        want = expected_output(prompt, tokens, ignore_eos=not natural)
        assert want.finish_reason == ("stop" if natural else "length")
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = len(want.ids)
        body = {
            "messages": messages, "prompt": prompt, "max_tokens": tokens, "ignore_eos": not natural,
            "stream_options": {"include_usage": True},
        }  # fmt: skip
        del body["prompt" if chat else "messages"]
        got = await stream(service[0].url, path, body)
        assert (got.text, got.errors, got.done) == (want.text, [], True)
        assert got.finish == [want.finish_reason]
        assert [usage["completion_tokens"] for usage in got.usage] == [len(want.ids)]
        await service.settle()
        assert service.metric("cascade_rescues_total") == 0


@pytest.mark.parametrize("failing", [[0], [0, 1]], ids=["one engine", "every engine"])
@on_uvloop
async def test_a_request_that_no_engine_can_serve_is_held_against_none(
    tmp_path: Path, failing: list[int]
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map()) as service:
        front = service[1].sidecar.tools
        for number in failing:
            service[number].engine.faults.status = 500
        got = await stream(service[1].url, "/v1/completions", BODY)
        while len(failing) == 1 and not front.bans.until(service[0].member.address):
            got = await stream(service[1].url, "/v1/completions", BODY)
        now = front.loop.time()
        banned = [front.bans.banned(one.member.address, now) for one in service.instances]
        if len(failing) == 1:
            assert (got.status, banned) == (200, [True, False])
        else:
            assert (got.status, banned) == (500, [False, False])
