"""Faults on purpose strike where they are told to, and nowhere else."""

import asyncio
import sys

import httpx
import pytest

from e2e.engine_simulator.faults import Faults, InvalidFaults
from tests.engine_simulator.conftest import Serve
from tests.engine_simulator.sse_reader import stream
from tests.engine_simulator.waiting import until

BODY = {"prompt": "the river", "max_tokens": 30, "ignore_eos": True}
PATH = "/v1/completions"


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_status_strikes_as_often_as_asked(serve: Serve, status: int) -> None:
    faults = f'{{"status": {status}, "statusTimes": 1, "retryAfterSeconds": 7}}'
    async with serve("--faults", faults) as (client, _):
        first = await client.post(PATH, json=BODY)
        second = await client.post(PATH, json=BODY)
        health = await client.get("/health")
    assert [first.status_code, second.status_code, health.status_code] == [status, 200, 200]
    assert first.headers.get("retry-after") == ("7" if status != 500 else None)


async def test_a_stream_is_reset_after_its_tokens_and_the_engine_lives(serve: Serve) -> None:
    async with serve("--faults", '{"resetAfterTokens": 5, "resetTimes": 1}') as (client, engine):
        with pytest.raises((httpx.ReadError, httpx.TransportError)):
            await stream(client, PATH, BODY)
        assert engine.batch.pool.used == 0
        assert (await stream(client, PATH, BODY)).done


async def test_the_admin_endpoint_sets_and_shows_faults(serve: Serve) -> None:
    async with serve("--allow-faults") as (client, _):
        set_ = await client.post("/simulator/faults", json={"status": 500})
        assert set_.json()["status"] == 500
        assert (await client.post(PATH, json=BODY)).status_code == 500
        wrong = await client.post("/simulator/faults", json={"explode": True})
        assert wrong.status_code == 400
        assert "hang" in wrong.json()["error"]["message"]
        await client.post("/simulator/faults", json={})
        assert (await client.post(PATH, json=BODY)).status_code == 200


async def test_a_hanging_engine_gives_no_token_until_it_is_released(serve: Serve) -> None:
    async with serve("--allow-faults") as (client, engine):
        await client.post("/simulator/faults", json={"hang": True})
        waiting = asyncio.create_task(stream(client, PATH, BODY))

        async def queued() -> bool:
            return bool(engine.batch.waiting)

        await until(queued)
        assert (await client.get("/health")).status_code == 200
        assert engine.metrics.generation_tokens == 0
        await client.post("/simulator/faults", json={"hang": False})
        assert (await waiting).done


async def test_an_engine_that_starts_slowly_answers_503(serve: Serve) -> None:
    async with serve("--slow-start-seconds", "3600") as (client, _):
        assert (await client.get("/health")).status_code == 503
        assert (await client.post(PATH, json=BODY)).status_code == 503


async def test_a_slow_start_comes_to_an_end(serve: Serve) -> None:
    async with serve("--slow-start-seconds", "0.05") as (client, _):

        async def healthy() -> bool:
            return (await client.get("/health")).status_code == 200

        await until(healthy)


async def test_a_crash_ends_the_process_in_mid_stream() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.engine_simulator", "--model", "demo", "--port", "0",
        "--faults", '{"crashAfterTokens": 5}', "--coefficients", '{"baseMs": 1}',
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(30):
        line = (await process.stderr.readline()).decode()
        port = int(line.rsplit(":", 1)[1])
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            with pytest.raises((httpx.ReadError, httpx.TransportError)):
                await stream(client, PATH, BODY)
        assert await process.wait() == 70


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param([], "JSON object", id="not an object"),
        pytest.param({"status": 404}, "429, 500 or 503", id="a status that engines do not give"),
        pytest.param({"hang": 1}, "true or false", id="hang as a number"),
        pytest.param({"resetAfterTokens": -1}, "whole number from 0", id="a negative count"),
    ],
)
def test_wrong_faults_are_refused_by_name(data: object, words: str) -> None:
    with pytest.raises(InvalidFaults, match=words):
        Faults.from_json(data)


async def test_connections_are_dropped_before_any_answer_as_often_as_asked(serve: Serve) -> None:
    async with serve("--faults", '{"dropTimes": 2}') as (client, _):
        for _ in range(2):
            with pytest.raises(httpx.TransportError):
                await client.post("/v1/completions", json={"prompt": "a"})
        assert (await client.post("/v1/completions", json={"prompt": "a"})).status_code == 200


async def test_a_stream_is_reset_after_its_head(serve: Serve) -> None:
    faults = '{"resetAfterTokens": 0, "resetTimes": 1}'
    async with serve("--faults", faults) as (client, engine):
        with pytest.raises(httpx.TransportError):
            await client.post(PATH, json={"prompt": "a", "stream": True})
        assert not engine.batch.running
