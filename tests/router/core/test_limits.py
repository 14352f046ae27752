"""The limits that whoever runs the platform can set."""

import asyncio
import contextlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cascade_router import limits
from cascade_router.tools import Tools
from e2e.engine_simulator.faults import Faults
from tests.router.core.cluster import (
    MODEL,
    cluster,
    fast_model,
    light_client,
    lone_sidecar,
    stage_map,
    until,
)
from tests.router.core.loop import on_uvloop
from tests.router.engine_api.recording import recording_engine

BODY = {"model": MODEL, "prompt": [300, 301], "max_tokens": 20}
ONE_AT_A_TIME = stage_map(engine=replace(fast_model(), max_sequences=1))


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/v1/completions", None), ("/v1/messages", "error"), ("/tokenize", None)],
)
@on_uvloop
async def test_a_body_beyond_the_limit_is_refused_in_the_shape_of_the_api(
    tmp_path: Path, path: str, kind: str | None
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, max_body_bytes=1000) as (_, url),
        light_client() as client,
    ):
        for size, status in ((1000, 200), (1001, 413)):
            body = b'{"a":"%b"}' % (b"x" * (size - 8))
            answer = await client.post(url + path, content=body)
            assert (len(body), answer.status_code) == (size, status)
        assert answer.json().get("type") == kind
        assert "1000 bytes" in answer.json()["error"]["message"]
        assert len(engine.seen) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"max_waiting": 0}, "and so is the queue", id="nobody may wait"),
        pytest.param({"max_wait_seconds": 0.1}, "waited too long", id="nobody may wait for long"),
    ],
)
@on_uvloop
async def test_a_request_without_room_is_turned_away(
    tmp_path: Path, settings: dict[str, float], words: str
) -> None:
    async with (
        cluster(tmp_path, [0], ONE_AT_A_TIME, settings=settings) as service,
        light_client() as client,
    ):
        service[0].engine.faults.hang = True
        url = service[0].url + "/v1/completions"
        first = asyncio.create_task(client.post(url, json=BODY))
        await until(lambda: bool(service[0].engine.batch.waiting), "the engine has the first one")
        answer = await client.post(url, json=BODY)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert words in answer.json()["error"]["message"]
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first


@on_uvloop
async def test_bodies_are_held_until_the_answer_begins_and_no_more_than_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_HELD_BYTES", 1_100_000)
    body = {**BODY, "stream": True, "max_tokens": 4000, "ignore_eos": True, "note": "x" * 400_000}
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        tools, url = service[0].sidecar.tools, service[0].url + "/v1/completions"
        service[0].engine.set_faults(Faults(hang=True))
        waiting = []
        for least in (400_000, 800_000):
            waiting.append(asyncio.create_task(client.post(url, json=body)))
            once = range(least, least + 10_000)
            await until(partial(_holds, tools, once), "it is held, once")
        answer = await client.post(url, json=body)
        assert answer.status_code == 503
        assert "too many large requests" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "1"
        service[0].engine.set_faults(Faults())
        await until(lambda: tools.held_bytes < 10_000, "their answers have begun")
        assert len(tools.sessions) == 2
        assert [(await task).status_code for task in waiting] == [200, 200]
        await service.settle()
        assert tools.held_bytes == 0


def _holds(tools: Tools, sizes: range) -> bool:
    return tools.held_bytes in sizes
