"""Who is let in by the head alone, at the door of a real sidecar."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cascade_router.api import API, Serving
from cascade_router.channel import handshake
from cascade_router.outcomes import Outcome
from cascade_router.record import RequestRecord
from cascade_router.sidecar import Sidecar
from tests.router.core.cluster import light_client, lone_sidecar, until
from tests.router.core.loop import on_uvloop
from tests.router.edge.mounted_secret import MountedSecret
from tests.router.engine_api.recording import recording_engine

KEY = "key-0123456789abcdef"
ANNOUNCED = 1_000_000
SERVED = [one for one in API if one.method == "GET" and one.path != "/debug/state"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a sidecar."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(10):
            yield reader, writer
    finally:
        writer.close()


def observed(sidecar: Sidecar) -> list[RequestRecord]:
    """What is told of its requests from now on."""
    records: list[RequestRecord] = []
    sidecar.tools.observers.append(records.append)
    return records


REFUSED = [
    pytest.param("POST", "/v1/completions", 401, "/v1/completions", id="without a key"),
    pytest.param("POST", "/v1/nothing", 404, None, id="to no path"),
    pytest.param("PUT", "/v1/completions", 405, "/v1/completions", id="by another method"),
    pytest.param("POST", "/v1/messages", 413, "/v1/messages", id="with a body too large"),
]


@pytest.mark.parametrize(("method", "path", "status", "told"), REFUSED)
@on_uvloop
async def test_a_request_is_refused_and_recorded_before_its_body_comes(
    tmp_path: Path, method: str, path: str, status: int, told: str | None
) -> None:
    keys = MountedSecret(tmp_path / "keys", {"k": KEY.encode()}).folder
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, api_keys_dir=keys, max_body_bytes=ANNOUNCED - 1)
        as (sidecar, url),
        connected(url) as (reader, writer),
    ):  # fmt: skip
        records = observed(sidecar)
        key = "" if status == 401 else f"authorization: Bearer {KEY}\r\n"
        writer.write(
            f"{method} {path} HTTP/1.1\r\nhost: x\r\n{key}x-request-id: call-1\r\n"
            f"expect: 100-continue\r\ncontent-length: {ANNOUNCED}\r\n\r\n".encode()
        )
        # The whole answer, and the end of the connection, without a byte of the body.
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"\r\nconnection: close\r\n" in answer
        assert b"\r\nx-request-id: call-1\r\n" in answer
        assert answer.count(b'"type":"error"') == (path == "/v1/messages")
        (record,) = records
        assert (record.method, record.path, record.status) == (method, told, status)
        assert record.outcome is Outcome.REJECTED
        assert record.client == "127.0.0.1"
        with contextlib.suppress(ConnectionError):
            for _ in range(20):
                writer.write(b"x" * 10_000)
                await writer.drain()
                assert sidecar.connections.unread_bytes == 0
        assert engine.lines == []


@pytest.mark.parametrize("sent", [ANNOUNCED // 2, ANNOUNCED])
@on_uvloop
async def test_a_client_that_sends_its_body_at_once_reads_why_it_is_refused(
    tmp_path: Path, sent: int
) -> None:
    """Its system would have thrown the answer away had the connection been reset."""
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        for _ in range(20):
            async with connected(url) as (reader, writer):
                head = b"PUT /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
                writer.write(head % ANNOUNCED + b"x" * sent)
                await writer.drain()
                assert (await reader.read()).startswith(b"HTTP/1.1 405 ")


@on_uvloop
async def test_chunks_beyond_the_limit_are_refused_in_the_shape_of_the_api_and_recorded(
    tmp_path: Path,
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, max_body_bytes=1000) as (sidecar, url),
        connected(url) as (reader, writer),
    ):
        records = observed(sidecar)
        writer.write(b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await until(lambda: sidecar.connections.unread_bytes == 1000, "that much is let in")
        writer.write(b"1\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'{"type":"error"' in answer
        assert [(record.path, record.status) for record in records] == [("/v1/messages", 413)]
        assert sidecar.connections.unread_bytes == 0


@on_uvloop
async def test_continue_is_said_to_who_is_let_in(tmp_path: Path) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
        connected(url) as (reader, writer),
    ):
        writer.write(
            b"POST /tokenize HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
            b"content-length: 2\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"{}")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", [one.path for one in SERVED])
@on_uvloop
async def test_head_is_get_without_a_body_on_every_path_that_is_read(
    tmp_path: Path, path: str
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
        light_client() as client,
    ):
        records = observed(sidecar)
        got, head = await client.get(url + path), await client.head(url + path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        differing = {"x-request-id", "content-length"} if path == "/metrics" else {"x-request-id"}
        assert head.headers.keys() == got.headers.keys()
        for name in got.headers.keys() - differing:
            assert head.headers[name] == got.headers[name]
        assert set(engine.lines) <= {f"GET {path}"}
        asked = [one.path for one in API if one.serving is Serving.ASKED]
        assert [record.method for record in records] == (["GET", "HEAD"] if path in asked else [])


@on_uvloop
async def test_what_connection_names_does_not_reach_the_engine(tmp_path: Path) -> None:
    sent = {
        "connection": "TraceParent, authorization, x-request-id",
        "traceparent": "00-1", "authorization": "Bearer a", "x-request-id": "call-1",
        "tracestate": "a=b", "te": "trailers", "keep-alive": "timeout=5",
        "proxy-authorization": "Basic a", "proxy-connection": "close", "upgrade": "h2c",
    }  # fmt: skip
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
        light_client() as client,
    ):
        for path in ("/v1/completions", "/tokenize"):
            assert (await client.post(url + path, json={"prompt": [5]}, headers=sent)).is_success
        for seen in engine.seen:
            assert seen.headers.pop("x-request-id") != "call-1"
            ours = {"host", "accept-encoding", "content-type", "content-length"}
            assert seen.headers.keys() - ours == {"tracestate"}
    assert len(engine.seen) == 2


@on_uvloop
async def test_a_target_may_be_a_url_with_any_host(tmp_path: Path) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
        connected(url) as (reader, writer),
    ):
        writer.write(b"GET http://elsewhere:1/v1/models?a=b HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert engine.lines == ["GET /v1/models"]


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n", id="POST"
        ),
        pytest.param("GET {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 9999999\r\n\r\n", id="GET"),
    ],
)
@on_uvloop
async def test_nobody_sends_a_body_to_the_path_of_channels(tmp_path: Path, head: str) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
        connected(url) as (reader, writer),
    ):
        writer.write(head.format(path=handshake.PATH).encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        assert sidecar.connections.unread_bytes == 0


@on_uvloop
async def test_a_router_that_fails_at_a_request_serves_the_next_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
        light_client() as client,
    ):

        def fail(*_: object) -> None:
            raise ValueError("secret words")

        caplog.set_level(logging.ERROR)
        with monkeypatch.context() as patch:
            patch.setattr(sidecar.front, "_ask", fail)
            answer = await client.post(url + "/tokenize", json={"prompt": "secret words"})
        assert (answer.status_code, answer.headers["connection"]) == (500, "close")
        assert "secret" not in answer.text + caplog.text
        assert (await client.post(url + "/tokenize", json={})).status_code == 200
