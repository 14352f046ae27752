"""Pods that leave under traffic: what can go on elsewhere does, the rest ends, and no client
notices."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade_policy.arrival import Arrival
from cascade_policy.names import HEADER_LEAVES, LEAVE_PATH
from cascade_router import leaving
from cascade_router.membership import View
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    FAST,
    MODEL,
    PATIENT,
    Instance,
    Received,
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

COMPLETIONS = "/v1/completions"
STEADY = {**FAST, "baseMs": 5.0}
"""Steps long enough for sequences to be under way while something happens."""
PINNED = {"stop": ["~~~"]}
"""Such a string never comes, but the engine alone knows that."""
CLIENTS = 24
HOOK = {HEADER_LEAVES: "uid"}


def body_of(prompt: list[int], output: int, **fields: Any) -> dict[str, Any]:
    return {"prompt": prompt, "max_tokens": output, "ignore_eos": True, **fields}


async def hook(instance: Instance) -> httpx.Response:
    """What the kubelet does before it stops the engine's container."""
    async with light_client() as client:
        return await client.get(instance.url + LEAVE_PATH, headers=HOOK)


async def whole(url: str, body: dict[str, Any]) -> Received:
    """An unstreamed request, which nobody can hand over once it runs."""
    async with light_client() as client:
        answer = await client.post(url + COMPLETIONS, json={"model": MODEL, **body})
    got = Received(answer.status_code, answer.headers, answer.content)
    if answer.status_code == 200:
        got.events = [json.loads(answer.content)]
    return got


async def finished(tasks: Sequence[asyncio.Task[Received]], want: str) -> None:
    for got in await asyncio.gather(*tasks):
        assert (got.status, got.errors, got.text) == (200, [], want)


@on_uvloop
async def test_streams_that_can_go_on_elsewhere_leave_at_once_and_the_others_end(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 0, 0], stage_map(), coefficients=STEADY) as service:
        gone, other, third = service.instances
        want = expected_output([5, 6], 400, ignore_eos=True).text
        service.publish(without=[other, third])
        # Its own clients and those of another front, of both kinds.
        tasks = [
            asyncio.create_task(stream(front.url, COMPLETIONS, body_of([5, 6], 400, **fields)))
            for front in (gone, other)
            for fields in ({}, {}, PINNED)
        ]
        tasks += [asyncio.create_task(whole(other.url, body_of([5, 6], 400)))]
        batch = gone.engine.batch
        await until(lambda: len(batch.running) == 7, "all run on the pod that will go")
        await until(lambda: min(s.generated for s in batch.running) > 3, "all decode")
        service.publish()
        leaving_ = asyncio.create_task(hook(gone))
        await until(lambda: len(batch.running) == 3, "only the pinned ones are left")
        assert not leaving_.done()
        assert min(s.generated for s in batch.running) < 350, "the others did not just end"
        assert (await leaving_).status_code == 200
        assert not batch.running
        await finished(tasks, want)
        await service.settle()
        assert service.metric("cascade_handovers_total", outcome="completed") == 4
        assert service.metric("cascade_rescues_total") == 0


@on_uvloop
async def test_a_pod_that_leaves_takes_nothing_new_and_serves_its_clients_by_others(
    tmp_path: Path,
) -> None:
    timing = replace(PATIENT, propagation=0.3)
    async with cluster(tmp_path, [0, 0], stage_map(), timing=timing) as service:
        gone, other = service.instances
        async with light_client() as client:
            before = await client.get(gone.url + "/ready")
            assert before.status_code == 200
            assert "connection" not in before.headers
            assert (await hook(gone)).status_code == 200
            # On the connection that it was told would stay.
            ready = await client.get(gone.url + "/ready")
            assert (ready.status_code, ready.headers["connection"]) == (503, "close")
        leaving_ = asyncio.create_task(gone.sidecar.drain())
        for front in (gone, other):
            for fields in ({}, PINNED):
                got = await stream(front.url, COMPLETIONS, body_of([5, 6], 3, **fields))
                assert (got.status, got.done) == (200, True)
                assert got.headers["x-cascade-instance"] == other.name
                assert got.headers.get("connection") == ("close" if front is gone else None)
        await leaving_
        assert not gone.sidecar.connections.open
        with pytest.raises(httpx.ConnectError):
            await hook(gone)


@on_uvloop
async def test_a_connection_that_was_to_stay_is_served_once_more_and_probes_are_answered(
    tmp_path: Path,
) -> None:
    timing = replace(PATIENT, propagation=0.5)
    async with cluster(
        tmp_path, [0, 0], stage_map(), timing=timing, coefficients=STEADY
    ) as service:
        gone, other = service.instances
        service.publish(without=[gone])
        async with light_client() as client:
            body = {"model": MODEL, "stream": True, **body_of([5, 6], 300)}
            async with client.stream("POST", gone.url + COMPLETIONS, json=body) as response:
                assert "connection" not in response.headers
                leaving_ = asyncio.create_task(gone.sidecar.drain())
                known_at, loop = gone.sidecar.leaving.known_at, asyncio.get_running_loop()
                await until(lambda: loop.time() > known_at, "nobody should come any more")
                async with light_client() as kubelet:
                    assert (await kubelet.get(gone.url + "/health")).status_code == 200
                await response.aread()
            again = await client.post(
                gone.url + COMPLETIONS, json={"model": MODEL, **body_of([5, 6], 3)}
            )
            assert (again.status_code, again.headers["connection"]) == (200, "close")
            assert again.headers["x-cascade-instance"] == other.name
        await leaving_


@on_uvloop
async def test_without_another_instance_streams_stay_until_there_is_one(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0], stage_map(), coefficients=STEADY) as service:
        gone, other = service.instances
        service.publish(without=[other])
        want = expected_output([5, 6], 1200, ignore_eos=True).text
        task = asyncio.create_task(stream(gone.url, COMPLETIONS, body_of([5, 6], 1200)))
        await until(lambda: len(gone.engine.batch.running) == 1, "it runs")
        leaving_ = asyncio.create_task(hook(gone))
        await until(lambda: gone.sidecar.tools.own.leaving, "the pod leaves")
        at = gone.engine.batch.running[0].generated
        await until(lambda: gone.engine.batch.running[0].generated > at + 50, "it goes on")
        service.publish()
        await until(lambda: len(other.engine.batch.running) == 1, "it has gone")
        assert not gone.engine.batch.running
        await leaving_
        await finished([task], want)


@on_uvloop
async def test_a_pod_that_sees_its_own_deletion_leaves_before_the_kubelet_asks(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0, 0], stage_map(), coefficients=STEADY) as service:
        gone, other = service.instances
        service.publish(without=[other])
        want = expected_output([5, 6], 400, ignore_eos=True).text
        task = asyncio.create_task(stream(gone.url, COMPLETIONS, body_of([5, 6], 400)))
        await until(lambda: len(gone.engine.batch.running) == 1, "it runs")
        members = (other.member,)
        gone.sidecar.use(View(service.stage_map, members, 0, leaving=True))
        await until(lambda: len(other.engine.batch.running) == 1, "it has gone")
        await finished([task], want)


@on_uvloop
async def test_only_the_kubelet_can_make_a_pod_leave(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        for headers in ({}, {HEADER_LEAVES: ""}, {HEADER_LEAVES: "another"}, {HEADER_LEAVES: "é"}):
            raw = httpx.Headers(headers, encoding="utf-8")
            answer = await client.get(service[0].url + LEAVE_PATH, headers=raw)
            assert answer.status_code == 404
        assert (await client.get(service[0].url + "/ready")).status_code == 200


@on_uvloop
async def test_the_kubelet_needs_no_key_where_clients_do(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    (keys / "client").write_text("a-key-of-some-client")
    settings = {"api_keys_dir": keys}
    async with cluster(tmp_path, [0], stage_map(), settings=settings) as service:
        async with light_client() as client:
            assert (await client.get(service[0].url + LEAVE_PATH)).status_code == 401
        assert (await hook(service[0])).status_code == 200


@on_uvloop
async def test_a_pod_whose_engine_alone_was_restarted_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leaving, "RETURN_SECONDS", 0.5)
    async with cluster(tmp_path, [0, 0], stage_map()) as service, light_client() as client:
        gone, other = service.instances
        await hook(gone)
        assert (await client.get(gone.url + "/ready")).status_code == 503
        await until(lambda: gone.sidecar.leaving.since is None, "it stays after all")
        answer = await client.get(gone.url + "/ready")
        assert answer.status_code == 200
        assert "connection" not in answer.headers
        service.publish(without=[other])
        service.publish(without=[])
        offers = other.sidecar.tools.dispatcher.offers
        await until(lambda: offers.last(gone.member.address) is not None, "it offers again")


@on_uvloop
async def test_the_hook_answers_when_the_time_is_over_whatever_runs(tmp_path: Path) -> None:
    settings = {"drain_seconds": 0.3}
    async with cluster(
        tmp_path, [0], stage_map(), coefficients=STEADY, settings=settings
    ) as service:
        task = asyncio.create_task(
            stream(service[0].url, COMPLETIONS, body_of([5, 6], 2000, **PINNED))
        )
        await until(lambda: len(service[0].engine.batch.running) == 1, "it runs")
        assert (await hook(service[0])).status_code == 200
        assert len(service[0].engine.batch.running) == 1
        task.cancel()
        await asyncio.wait([task])
        await service.settle()


@on_uvloop
async def test_nobody_waits_for_an_engine_that_is_not_well(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        own = service[0].sidecar.tools.own
        stay = own.enter(Arrival(5))
        waiting = asyncio.create_task(hook(service[0]))
        await until(lambda: own.leaving, "it waits for the sequence")
        await service[0].kill_engine()
        own.suspect()
        assert (await waiting).status_code == 200
        assert own.busy == 1
        stay.leave(own._loop.time())


@dataclass
class Traffic:
    """Requests of all kinds at the pods that take clients, each answer complete and right."""

    alive: list[Instance]
    over: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    unheard: dict[int, str] = field(default_factory=dict)
    """Requests without an answer yet, and the pods that they went to."""

    async def run(self) -> None:
        """Keep some under way until it is over."""
        await asyncio.gather(*(self._client() for _ in range(CLIENTS)))

    async def _client(self) -> None:
        while not self.over.is_set():
            self.sent += 1
            await self._one(self.sent, self.alive[self.sent % len(self.alive)])

    def is_heard(self, front: Instance) -> bool:
        """Whether all of a pod's clients have got something: none is still connecting."""
        return front.name not in self.unheard.values()

    async def _one(self, number: int, front: Instance) -> None:
        prompt = [270 + number % 300, *[301] * (number % 2 * 160)]
        output = 5 + 40 * (number % 7)
        want = expected_output(prompt, output, ignore_eos=True).text
        self.unheard[number] = front.name
        if number % 3 == 2:
            got = await whole(front.url, body_of(prompt, output))
        else:
            fields = PINNED if number % 3 else {}
            body = body_of(prompt, output, **fields)
            got = await stream(
                front.url, COMPLETIONS, body, on_event=lambda _: self.unheard.pop(number, None)
            )
        self.unheard.pop(number, None)
        assert (got.status, got.errors, got.text) == (200, [], want), number


def has_work(instance: Instance) -> bool:
    return len(instance.engine.batch.running) > 1


def leaves(instance: Instance) -> bool:
    return instance.sidecar.tools.own.leaving


async def delete(instance: Instance, load: Traffic) -> None:
    """What becomes of a pod that is deleted: the hook, the end of its engine's container, and only
    then the router is told. Nobody connects any more by then."""
    assert (await hook(instance)).status_code == 200
    assert not instance.engine.batch.running
    await instance.kill_engine()
    await until(partial(load.is_heard, instance), "all clients have connected")
    await instance.sidecar.drain()
    await instance.sidecar.stop()


@on_uvloop
async def test_every_pod_is_replaced_under_traffic_and_no_request_fails(tmp_path: Path) -> None:
    """Eight pods for four places: each of the first four is deleted when its successor is ready."""
    async with cluster(tmp_path, [0, 0, 1, 1] * 2, stage_map(150), coefficients=STEADY) as service:
        load = Traffic(service.instances[:4])

        def publish() -> None:
            service.publish(without=[one for one in service.instances if one not in load.alive])

        publish()
        sending = asyncio.create_task(load.run())
        for number in range(4):
            gone, new = service.instances[number], service.instances[number + 4]
            await until(partial(has_work, gone), "it has work")
            load.alive.append(new)
            publish()
            # Clients and peers hear of it a little later than the pod itself.
            deletion = asyncio.create_task(delete(gone, load))
            await until(partial(leaves, gone), "it leaves")
            load.alive.remove(gone)
            publish()
            await deletion
        load.over.set()
        await sending
        assert load.sent > 50
        del service.instances[:4]
        await service.settle()
        assert service.metric("cascade_rescues_total", outcome="failed") == 0


@on_uvloop
async def test_leaving_ends_at_the_grace_limit(tmp_path: Path) -> None:
    async def script(connection: Connection, _path: str, _body: bytes) -> None:
        connection.send(STREAM_HEAD)
        connection.send_chunk(completion("a", [1], prompt=[5]))

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port, drain_seconds=0.3) as (sidecar, url),
    ):
        endless = asyncio.create_task(
            stream(url, "/v1/completions", {"prompt": [5], "max_tokens": 5})
        )
        await until(lambda: sidecar.connections.busy() == 1, "the stream runs")
        async with asyncio.timeout(5):
            await sidecar.drain()
        assert sidecar.connections.busy() == 1
        await sidecar.stop()
        await asyncio.wait([endless])
