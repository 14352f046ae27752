"""HTTP at both ends: limits, reuse, backpressure, and connections that close."""

import asyncio
import contextlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_router import limits
from cascade_router.membership import Member, View
from tests.router.core.cluster import (
    MODEL,
    Received,
    cluster,
    lone_sidecar,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop
from tests.router.core.scripted import STREAM_HEAD, Connection, scripted_engine
from tests.router.core.test_sse import completion

BODY = json.dumps(
    {"model": MODEL, "prompt": [5, 6], "max_tokens": 5, "stream": True, "ignore_eos": True}
).encode()
REQUEST = (
    b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(BODY) + BODY
)


async def send_raw(url: str, data: bytes) -> bytes:
    """Send bytes and read until the router closes the connection."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


CASES = [
    pytest.param(b"nonsense\r\n\r\n", b"400", id="no HTTP"),
    pytest.param(
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (limits.MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
        b"431", id="a head that is too large",
    ),
    pytest.param(
        b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n",
        b"413", id="a body that is announced too large",
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"400", id="two lengths of one body",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), CASES)
@on_uvloop
async def test_what_cannot_be_read_is_refused_and_the_connection_closed(
    tmp_path: Path, data: bytes, status: bytes
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await send_raw(service[0].url, data)
        assert answer.split(b" ")[1] == status
        assert b"connection: close" in answer
        assert b'"error"' in answer


@on_uvloop
async def test_a_chunked_body_that_grows_too_large_is_refused(tmp_path: Path) -> None:
    settings = {"max_body_bytes": 1000}
    async with cluster(tmp_path, [0], stage_map(), settings=settings) as service:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        answer = await send_raw(service[0].url, head + b"3f0\r\n" + b"x" * 1008 + b"\r\n")
        assert answer.split(b" ")[1] == b"413"


@on_uvloop
async def test_one_header_that_never_ends_is_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        host, port = service[0].url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx: ")
        answer = asyncio.ensure_future(reader.read())
        sent = 0
        # The refusal may be overtaken by the reset of a connection that nobody reads any more.
        with contextlib.suppress(ConnectionError):
            while not answer.done():
                assert sent < 100 * limits.MAX_HEAD_BYTES, "the head may grow without limit"
                writer.write(b"y" * 8192)
                sent += 8192
                await writer.drain()
                await asyncio.sleep(0)
            assert (await answer).split(b" ")[1] == b"431"
        assert sent < 100 * limits.MAX_HEAD_BYTES
        writer.close()


@on_uvloop
async def test_a_body_that_is_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    body = b'{"model":"m","prompt":' + b"[" * 5000 + b"]" * 5000 + b"}"
    head = b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n"
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await send_raw(service[0].url, head % len(body) + body)
        assert answer.split(b" ")[1] == b"400"
        assert b"nested too deeply" in answer


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"prompt":"\xff"}', id="bytes that are no UTF-8"),
        pytest.param(b'{"prompt":[1,"a,b"]}', id="a string among ids"),
        pytest.param(b'{"prompt":[1,{"a":1,"b":2}]}', id="an object among ids"),
        pytest.param(b'{"prompt":[1],"temperature":1e999}', id="a number beyond all bounds"),
        pytest.param(b'{"prompt":[1],"max_tokens":' + b"9" * 5000 + b"}", id="a very long number"),
        pytest.param(b'{"prompt":[1],"vllm_xargs":{' + b'"a":1,' * 60000 + b'"b":1}}', id="xargs"),
        pytest.param(b"[1]", id="no object"),
    ],
)
@on_uvloop
async def test_a_body_that_no_engine_could_read_is_refused(tmp_path: Path, body: bytes) -> None:
    head = b"POST /v1/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n"
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await send_raw(service[0].url, head % len(body) + body)
        assert answer.split(b" ")[1] == b"400", answer[:300]
        await service.settle()


@on_uvloop
async def test_bodies_that_arrive_at_once_have_a_limit_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_UNREAD_BYTES", 100_000)
    head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 90000\r\n\r\n"
    async with cluster(tmp_path, [0], stage_map()) as service:
        host, port = service[0].url.removeprefix("http://").split(":")
        _, first = await asyncio.open_connection(host, int(port))
        first.write(head + b"x" * 80_000)
        connections = service[0].sidecar.connections
        await until(lambda: connections.unread_bytes == 80_000, "the first body arrives")
        answer = await send_raw(service[0].url, head + b"x" * 80_000)
        assert answer.split(b" ")[1] == b"503"
        assert b"retry-after: 1" in answer
        first.close()
        await until(lambda: connections.unread_bytes == 0, "nothing is left of it")


@on_uvloop
async def test_hundreds_of_pipelined_requests_are_all_answered(tmp_path: Path) -> None:
    last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with cluster(tmp_path, [0], stage_map()) as service:
        one = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"
        answer = await send_raw(service[0].url, one * 600 + last)
        assert answer.count(b"HTTP/1.1 200 OK") == 601


@on_uvloop
async def test_pipelined_requests_are_answered_in_order(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        last = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
        answer = await send_raw(service[0].url, REQUEST + models + REQUEST + last)
        statuses = answer.count(b"HTTP/1.1 200 OK")
        assert (statuses, answer.count(b"data: [DONE]")) == (4, 2)
        assert answer.index(b"data: [DONE]") < answer.index(b'"object":"list"')
        assert answer.endswith(b'{"status":"ok"}')
        await service.settle()


@on_uvloop
async def test_an_http_1_0_client_gets_a_body_that_ends_with_the_connection(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await send_raw(service[0].url, REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert body.startswith(b"data: ")
        assert body.endswith(b"data: [DONE]\n\n")


@on_uvloop
async def test_a_client_that_waits_for_continue_gets_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        request = REQUEST.replace(
            b"host: x", b"host: x\r\nconnection: close\r\nexpect: 100-continue"
        )
        answer = await send_raw(service[0].url, request)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@on_uvloop
async def test_slow_heads_and_idle_connections_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(limits, "KEEP_ALIVE_SECONDS", 0.1)
    monkeypatch.setattr(limits, "BODY_STALL_SECONDS", 0.1)
    async with cluster(tmp_path, [0], stage_map()) as service:
        slow_head = send_raw(service[0].url, b"GET /health HTTP/1.1\r\nhost: x\r\n")
        slow_body = send_raw(service[0].url, REQUEST[:-5])
        idle = send_raw(service[0].url, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        answers = await asyncio.gather(slow_head, slow_body, idle)
        assert [answer.split(b" ")[1] for answer in answers] == [b"408", b"408", b"200"]


@on_uvloop
async def test_too_many_connections_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        monkeypatch.setattr(limits, "MAX_CONNECTIONS", 0)
        answer = await send_raw(service[0].url, b"")
        assert answer.startswith(b"HTTP/1.1 503 ")


@on_uvloop
async def test_a_kept_connection_that_the_engine_closed_is_replaced(tmp_path: Path) -> None:
    """The engine closes its idle connection when the next request arrives on it, unread."""
    reset: list[int] = []

    async def script(connection: Connection, _path: str, _body: bytes) -> None:
        if connection.requests > 1 and not reset:
            reset.append(connection.number)
            connection.reset()
            return
        connection.send(STREAM_HEAD)
        connection.send_chunk(completion("a", [1], "length", prompt=[5]) + b"data: [DONE]\n\n")
        connection.send(b"0\r\n\r\n")

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
    ):
        body = {"prompt": [5], "max_tokens": 5}
        for _ in range(3):
            got = await stream(url, "/v1/completions", body)
            assert (got.text, got.done) == ("a", True)
        assert len(reset) == 1
        assert not sidecar.tools.bans.banned("127.0.0.1:0", 0.0)


@on_uvloop
async def test_a_first_event_of_a_megabyte_passes(tmp_path: Path) -> None:
    prompt = [100_000 + number % 10_000 for number in range(150_000)]

    async def script(connection: Connection, _path: str, body: bytes) -> None:
        assert json.loads(body)["prompt"] == prompt
        connection.send(STREAM_HEAD)
        connection.send_chunk(completion("a", [1], prompt=prompt))
        connection.send_chunk(completion("b", [2], "length") + b"data: [DONE]\n\n")
        connection.send(b"0\r\n\r\n")

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
    ):
        got = await stream(url, "/v1/completions", {"prompt": prompt, "max_tokens": 2})
        assert (got.text, got.errors) == ("ab", [])
        assert len(got.raw) < 1000


@on_uvloop
async def test_an_event_that_is_too_large_is_not_held_against_the_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_EVENT_BYTES", 1000)
    monkeypatch.setattr(limits, "EVENT_BYTES_PER_TOKEN", 0)
    asked = 0

    async def script(connection: Connection, _path: str, _body: bytes) -> None:
        nonlocal asked
        asked += 1
        connection.send(STREAM_HEAD)
        connection.send_chunk(b'data: {"choices":"' + b"y" * 2000)

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
    ):
        got = await stream(url, "/v1/completions", {"prompt": [1, 2], "max_tokens": 2, "stop": "x"})
        assert len(got.errors) == 1 or got.status == 502
        assert asked == 1
        assert not sidecar.tools.bans.banned("127.0.0.1:0", 0.0)


@pytest.mark.parametrize("own", [True, False], ids=["one hop", "two hops"])
@on_uvloop
async def test_a_client_that_does_not_read_stops_its_engine_from_being_read(
    tmp_path: Path, own: bool
) -> None:
    """Memory stays bounded, nothing is lost, and a client that leaves is noticed all the same."""
    pieces = 400
    stalled: list[Connection] = []

    async def script(connection: Connection, _path: str, _body: bytes) -> None:
        connection.send(STREAM_HEAD)
        for number in range(pieces):
            event = completion("x" * 65536, [number], prompt=None if number else [5])
            connection.send_chunk(event)
        connection.send_chunk(b"data: [DONE]\n\n")
        connection.send(b"0\r\n\r\n")
        stalled.append(connection)

    async with (
        scripted_engine(script) as engine,
        lone_sidecar(tmp_path, engine.port) as (near, url),
        lone_sidecar(tmp_path, engine.port) as (far, far_url),
    ):
        target = Member("pod-0", far_url.removeprefix("http://"), 0)
        near.use(View(stage_map(), (replace_address(target, url) if own else target,), 0))
        connections = near.connections
        for leaves in (True, False):
            stalled.clear()
            host, port = url.removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
            writer.write(REQUEST)
            await until(lambda: any(c.slow for c in connections.open), "the front notices")
            await until(lambda: bool(stalled), "the engine has said everything")
            waiting = stalled[0].writer.transport.get_write_buffer_size()
            assert waiting > 10_000_000, "most of it waits in the engine"
            if leaves:
                writer.close()
                await until(lambda: connections.busy() == 0, "the front notices that it left")
                await until(lambda: stalled[0].writer.transport.is_closing(), "so does the engine")
                continue
            answer = bytearray()
            while not answer.endswith(b"0\r\n\r\n"):
                answer += await reader.read(1 << 20)
            writer.close()
            assert answer.count(b"x" * 65536) == pieces
        await until(lambda: near.connections.busy() + far.connections.busy() == 0, "all is over")
        assert near.tools.own.load().sequences == far.tools.own.load().sequences == 0


def replace_address(member: Member, url: str) -> Member:
    """The same member behind another sidecar."""
    return replace(member, address=url.removeprefix("http://"))


@on_uvloop
async def test_clients_that_leave_at_once_leave_nothing_behind(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        host, port = service[0].url.removeprefix("http://").split(":")
        for _ in range(30):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(REQUEST)
            writer.transport.abort()
        connections = service[0].sidecar.connections
        await until(lambda: not connections.open, "all connections are closed")
        await service.settle()
        assert service.metric("cascade_requests_in_flight") == 0


@on_uvloop
async def test_a_storm_of_clients_leaves_nothing_behind(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0, 0, 1], stage_map(60)) as service:

        async def one(number: int) -> None:
            """Some are read to the end, some leave early, some are wrong."""
            body = {"prompt": [9] * (1 + number % 70), "max_tokens": 80, "ignore_eos": True}
            if number % 5 == 1:
                body["max_tokens"] = 0
            if number % 5 == 2:
                body["stop"] = ["never"]

            def leave(got: Received) -> None:
                """Every third client leaves after some events."""
                if number % 3 == 0 and len(got.events) > number % 17:
                    raise TimeoutError

            url = service[number % 3].url
            with contextlib.suppress(TimeoutError):
                await stream(url, "/v1/completions", body, on_event=leave)

        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 17
            instance.engine.faults.reset_times = 10
        await asyncio.gather(*(one(number) for number in range(150)))
        await service.settle()
        assert service.metric("cascade_requests_in_flight") == 0
        for outcome in ("completed", "cancelled", "rejected"):
            assert service.metric("cascade_requests_total", outcome=outcome) > 0
        assert service.metric("cascade_rescues_total", outcome="completed") > 0
