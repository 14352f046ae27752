"""What the head of an answer tells about where it comes from, on every way that it can take."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    MODEL,
    cluster,
    light_client,
    lone_sidecar,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop
from tests.router.core.scripted import STREAM_HEAD, Connection, scripted_engine
from tests.router.core.test_sse import completion

PROMPT = [300, 301, 302]
BODY = {"prompt": PROMPT, "max_tokens": 40, "ignore_eos": True}
MESSAGES = [{"role": "user", "content": "where do you come from?"}]
PLACED: dict[str, dict[str, Any]] = {
    "/v1/completions": BODY,
    "/v1/chat/completions": {"messages": MESSAGES, "max_completion_tokens": 5},
    "/v1/responses": {"input": "where?", "max_output_tokens": 5},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 5},
    "/v1/embeddings": {"input": PROMPT},
}
PINS = {"/v1/responses": "other-path", "/v1/messages": "other-path", "/v1/embeddings": "other-path"}


def told(headers: object) -> dict[str, str]:
    """The headers of ours, without the id."""
    items = dict(headers).items()  # type: ignore[call-overload]
    return {name: value for name, value in items if name.startswith("x-cascade-")}


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
@on_uvloop
async def test_every_placed_path_names_its_instance_and_why_it_is_pinned(
    tmp_path: Path, streamed: bool
) -> None:
    async with cluster(tmp_path, [1, 0], stage_map(1000)) as service, light_client() as client:
        for path, body in PLACED.items():
            sent = {"model": MODEL, **body, "stream": streamed}
            got = await client.post(service[0].url + path, json=sent)
            want = {"x-cascade-stage": "0", "x-cascade-instance": "pod-1"}
            pin = PINS.get(path, None if streamed else "unstreamed")
            if pin is not None:
                want |= {"x-cascade-pinned": pin, "x-cascade-handovers": "0"}
            assert (path, told(got.headers)) == (path, want)
            assert got.headers["x-request-id"]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "unstreamed"])
@on_uvloop
async def test_an_instance_that_is_lost_before_it_has_said_anything_is_not_named(
    tmp_path: Path, streamed: bool
) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(1000)) as service, light_client() as client:
        service[0].engine.faults.hang = True
        sent = {"model": MODEL, **BODY, "stream": streamed}
        waiting = asyncio.create_task(client.post(service[1].url + "/v1/completions", json=sent))
        await until(lambda: bool(service[0].engine.batch.waiting), "the first one has it")
        await service[0].kill_engine()
        got = await waiting
        assert got.status_code == 200
        assert got.headers["x-cascade-instance"] == "pod-1"
        assert got.headers["x-cascade-stage"] == "1"


@on_uvloop
async def test_a_stream_that_nobody_could_begin_is_an_error_with_a_status(tmp_path: Path) -> None:
    """The engine accepts, and breaks before its first event: again and again."""

    async def script(connection: Connection, path: str, body: bytes) -> None:  # noqa: ARG001
        connection.send(STREAM_HEAD)
        connection.reset()

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
    ):
        got = await stream(url, "/v1/completions", BODY)
        assert (got.status, got.headers["retry-after"]) == (503, "1")
        assert b"no instance is ready" in got.raw
        assert told(got.headers) == {}


@on_uvloop
async def test_an_engine_without_ids_is_told_in_the_head(tmp_path: Path) -> None:
    events = completion("a", None) + completion("b", None, "stop") + b"data: [DONE]\n\n"

    async def script(connection: Connection, path: str, body: bytes) -> None:  # noqa: ARG001
        connection.send(STREAM_HEAD)
        connection.send_chunk(events)
        connection.send(b"0\r\n\r\n")

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
    ):
        got = await stream(url, "/v1/completions", BODY)
        assert (got.text, got.headers["x-cascade-pinned"]) == ("ab", "no-ids")
        assert got.headers["x-cascade-handovers"] == "0"


@pytest.mark.parametrize(
    ("change", "pin"),
    [
        pytest.param({"model": "other"}, "unstreamed", id="unstreamed"),
        pytest.param({"model": "other", "stream": True}, None, id="streamed"),
        pytest.param({"model": "other", "stream": True, "n": 2}, "several-choices", id="pinned"),
    ],
)
@on_uvloop
async def test_an_engines_own_error_names_the_engine(
    tmp_path: Path, change: dict[str, object], pin: str | None
) -> None:
    async with cluster(tmp_path, [1, 0], stage_map(1000)) as service, light_client() as client:
        got = await client.post(service[0].url + "/v1/completions", json={**BODY, **change})
        assert got.status_code == 404
        assert got.headers["x-cascade-instance"] == "pod-1"
        assert got.headers["x-cascade-stage"] == "0"
        assert got.headers.get("x-cascade-pinned") == pin


@on_uvloop
async def test_an_error_of_the_router_names_no_instance(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        url = service[0].url + "/v1/completions"
        refused = await client.post(url, content=b"[]", headers={"x-request-id": "mine"})
        service.publish(without=service.instances)
        nobody = await client.post(url, json={"model": MODEL, **BODY})
        assert (refused.status_code, nobody.status_code) == (400, 503)
        assert told(refused.headers) == told(nobody.headers) == {}
        assert refused.headers["x-request-id"] == "mine"


@on_uvloop
async def test_the_head_of_a_stream_that_moves_names_where_it_began(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 1], stage_map(20)) as service:
        got = await stream(service[1].url, "/v1/completions", BODY)
        assert got.text == expected_output(PROMPT, 40, ignore_eos=True).text
        assert told(got.headers) == {"x-cascade-stage": "0", "x-cascade-instance": "pod-0"}
        await service.settle()
        assert service.metric("cascade_handovers_total", outcome="completed") == 1
