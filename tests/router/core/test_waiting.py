"""Memory: who waits, in which order, for how long, and that engines never run out of it."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cascade_policy.arrival import Arrival
from cascade_policy.engine_model import EngineModel
from cascade_policy.stage_map import Boundaries, StageMap
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    FAST,
    MODEL,
    Cluster,
    Received,
    cluster,
    light_client,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop

KV = 4800
SMALL: Mapping[str, float] = {"kvCapacityTokens": KV, "blockTokens": 16, "baseMs": 8.0}
"""Steps of a real engine's length: one that makes a hundred tokens between two looks of a router on
a busy machine runs out of memory whatever the router does."""
COMPLETIONS = "/v1/completions"


def small(*ends: int, **changes: Any) -> StageMap:
    """A stage map that knows how little memory there is."""
    plan = stage_map(*ends, **changes)
    wire = {**plan.engine.to_json(), **FAST, **SMALL}
    return stage_map(*ends, engine=EngineModel.from_json(wire), **changes)


def body_of(prompt: list[int], output: int, **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": output, "ignore_eos": True, **fields}


def preemptions(service: Cluster) -> int:
    return sum(instance.engine.batch.preemptions for instance in service.instances)


@pytest.mark.parametrize("instances", [1, 2])
@on_uvloop
async def test_far_more_than_fits_is_served_in_turn_without_a_preemption(
    tmp_path: Path, instances: int
) -> None:
    async with cluster(
        tmp_path, [0] * instances, small(slice_tokens=16), coefficients=SMALL
    ) as service:

        async def one(number: int) -> None:
            prompt = [270 + number % 200] * (100 + 37 * (number % 20))
            output = 20 + 13 * (number % 11)
            got = await stream(
                service[number % instances].url, COMPLETIONS, body_of(prompt, output)
            )
            want = expected_output(prompt, output, ignore_eos=True)
            assert (got.status, got.text, got.errors) == (200, want.text, [])

        await asyncio.gather(*(one(number) for number in range(40)))
        await service.settle()
        assert preemptions(service) == 0
        assert service.metric("cascade_wait_seconds_count") > 10
        assert service.metric("cascade_requests_waiting") == 0


@on_uvloop
async def test_without_a_book_that_asks_them_to_leave_the_same_would_be_preempted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shows that the former test can fail: sequences that grow far beyond what was foreseen."""
    async with cluster(tmp_path, [0], small(slice_tokens=16), coefficients=SMALL) as service:
        own = service[0].sidecar.tools.own
        monkeypatch.setattr(own._book, "crowding", lambda *_: [])
        want = [expected_output([271 + n] * 300, 400, ignore_eos=True).text for n in range(12)]
        got = await asyncio.gather(
            *(stream(service[0].url, COMPLETIONS, body_of([271 + n] * 300, 400)) for n in range(12))
        )
        assert [one.text for one in got] == want
        assert preemptions(service) > 0


@on_uvloop
async def test_sequences_that_outgrow_an_instance_go_where_there_is_room(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], small(slice_tokens=16), coefficients=SMALL) as service:
        service.publish(without=[service[1]])
        want = [expected_output([271 + n] * 300, 350, ignore_eos=True).text for n in range(10)]
        running = [
            asyncio.create_task(stream(service[0].url, COMPLETIONS, body_of([271 + n] * 300, 350)))
            for n in range(10)
        ]
        await until(lambda: len(service[0].engine.batch.running) == 10, "all are on the first one")
        service.publish()
        got = await asyncio.gather(*running)
        assert [(one.text, one.errors) for one in got] == [(text, []) for text in want]
        await service.settle()
        assert preemptions(service) == 0
        assert service[1].engine.metrics.generation_tokens > 0
        assert service.metric("cascade_evictions_total") > 0


@on_uvloop
async def test_a_long_prompt_is_not_starved_by_short_ones(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, [0], small(slice_tokens=16, ttft_target_ms=200.0), coefficients=SMALL
    ) as service:
        url, loop = service[0].url, asyncio.get_running_loop()
        over = asyncio.Event()

        async def shorts(number: int) -> int:
            count = 0
            while not over.is_set():
                await stream(url, COMPLETIONS, body_of([271 + number] * 700, 40))
                count += 1
            return count

        crowd = [asyncio.create_task(shorts(number)) for number in range(12)]
        await until(lambda: service.metric("cascade_requests_waiting") > 2, "the crowd waits")
        started = loop.time()
        got = await stream(url, COMPLETIONS, body_of([999] * 3500, 10))
        waited = loop.time() - started
        over.set()
        served = sum(await asyncio.gather(*crowd))
        assert got.text == expected_output([999] * 3500, 10, ignore_eos=True).text
        assert served > 12, "others were served meanwhile"
        assert waited < 10


@on_uvloop
async def test_a_full_queue_turns_clients_away_and_says_for_how_long(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, [0], small(), coefficients=SMALL, settings={"max_waiting": 3}
    ) as service:
        own, url = service[0].sidecar.tools.own, service[0].url
        full = own.enter(Arrival(KV - 500))
        waiting = [
            asyncio.create_task(stream(url, COMPLETIONS, body_of([271] * 600, 5))) for _ in range(3)
        ]
        await until(lambda: service.metric("cascade_requests_waiting") == 3, "three wait")
        async with light_client() as client:
            response = await client.post(
                url + COMPLETIONS, json={"model": MODEL, **body_of([271] * 600, 5)}
            )
        assert response.status_code == 429
        assert response.json()["error"]["type"] == "overloaded_error"
        assert 1 <= int(response.headers["retry-after"]) <= 60
        assert service.metric("cascade_turned_away_total") == 1
        full.leave(asyncio.get_running_loop().time())
        for got in await asyncio.gather(*waiting):
            assert got.done
        await service.settle()


@on_uvloop
async def test_each_that_is_turned_away_is_told_to_come_after_those_before_it(
    tmp_path: Path,
) -> None:
    settings = {"max_waiting": 0}
    async with (
        cluster(tmp_path, [0], small(), coefficients=SMALL, settings=settings) as service,
        light_client() as client,
    ):
        own, url = service[0].sidecar.tools.own, service[0].url
        room, loop = service[0].sidecar.tools.waiting, asyncio.get_running_loop()
        full = own.enter(Arrival(KV - 500))
        room._departures.extend([loop.time() - 4.0, loop.time() - 2.0])
        told = []
        for _ in range(6):
            response = await client.post(
                url + COMPLETIONS, json={"model": MODEL, **body_of([271] * 600, 5)}
            )
            told.append(int(response.headers["retry-after"]))
        assert told == sorted(told)
        assert told[0] < told[-1] <= told[0] + 15, "one more every two seconds or so"
        full.leave(loop.time())
        await service.settle()


@on_uvloop
async def test_who_waits_too_long_is_told_so(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, [0], small(), coefficients=SMALL, settings={"max_wait_seconds": 0.2}
    ) as service:
        full = service[0].sidecar.tools.own.enter(Arrival(KV - 500))
        got = await stream(service[0].url, COMPLETIONS, body_of([271] * 600, 5))
        assert got.status == 429
        assert b"waited too long" in got.raw
        full.leave(asyncio.get_running_loop().time())
        await service.settle()


@on_uvloop
async def test_a_client_that_leaves_the_queue_leaves_nothing_behind(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], small(), coefficients=SMALL) as service:
        full = service[0].sidecar.tools.own.enter(Arrival(KV - 500))
        waiting = asyncio.create_task(stream(service[0].url, COMPLETIONS, body_of([271] * 600, 5)))
        await until(lambda: service.metric("cascade_requests_waiting") == 1, "it waits")
        waiting.cancel()
        await asyncio.wait([waiting])
        await until(lambda: service.metric("cascade_requests_waiting") == 0, "it is gone")
        full.leave(asyncio.get_running_loop().time())
        await service.settle()
        assert service.metric("cascade_requests_total", outcome="cancelled") == 1


@on_uvloop
async def test_a_stream_that_has_begun_waits_before_all_others_and_goes_on(tmp_path: Path) -> None:
    """Its engine is lost, and the only other one is full."""
    async with cluster(
        tmp_path, [0, 0], small(), coefficients=SMALL, settings={"max_waiting": 1}
    ) as service:
        loop = asyncio.get_running_loop()
        want = expected_output([271] * 600, 300, ignore_eos=True)
        service.publish(without=[service[0]])
        lost: list[Any] = []

        def lose(got: Received) -> None:
            if len(got.events) == 10 and not lost:
                full = service[0].sidecar.tools.own.enter(Arrival(KV - 500))
                service.publish()
                lost.append(asyncio.ensure_future(service[1].kill_engine()))
                loop.call_later(0.5, full.leave, loop.time() + 0.5)

        running = asyncio.create_task(
            stream(service[0].url, COMPLETIONS, body_of([271] * 600, 300), on_event=lose)
        )
        await until(lambda: service.metric("cascade_requests_waiting") == 1, "the stream waits")
        late = await stream(service[0].url, COMPLETIONS, body_of([272] * 600, 5))
        got = await running
        await asyncio.gather(*lost)
        assert late.status in (200, 429)
        assert (got.text, got.errors) == (want.text, [])
        await service.settle()


@on_uvloop
async def test_what_no_engine_could_hold_is_for_the_engine_to_judge(tmp_path: Path) -> None:
    plan = small(boundaries=Boundaries.SOFT)
    async with cluster(tmp_path, [0], plan, coefficients=SMALL) as service:
        got = await stream(service[0].url, COMPLETIONS, body_of([271] * 4090, 500))
        assert got.status == 400
        assert b"maximum context length" in got.raw
