"""Requests and connections leave nothing behind that only the collector of cycles would find."""

import gc
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from cascade_policy.stage_map import RECOMPUTE, WARM, Handoff
from cascade_router.calls import Call
from cascade_router.hop_side import HopRelay
from cascade_router.legs import Leg
from cascade_router.move import Move
from cascade_router.server import ClientConnection
from cascade_router.session import Session
from cascade_router.upstream import Upstream
from tests.router.core.cluster import cluster, lone_sidecar, stage_map, stream, until
from tests.router.core.loop import on_uvloop
from tests.router.engine_api.recording import recording_engine
from tests.router.http.test_admission import connected
from tests.router.http.wire import talk

OWN = "cascade_router."
ROUNDS = 20

REQUESTS = [
    pytest.param(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n", id="answered at once"),
    pytest.param(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n", id="asked"),
    pytest.param(b"POST /tokenize HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
                 b"2\r\n{}\r\n0\r\n\r\n", id="in chunks"),
    pytest.param(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 14\r\n\r\n"
                 b'{"prompt":[5]}', id="placed"),
    pytest.param(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n[",
                 id="a body that is refused"),
    pytest.param(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n", id="not let in"),
    pytest.param(b"nonsense\r\n\r\n", id="not read"),
]  # fmt: skip


@pytest.mark.parametrize("request_bytes", REQUESTS)
@on_uvloop
async def test_nothing_of_a_request_waits_for_the_collector(
    tmp_path: Path, request_bytes: bytes
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (sidecar, url),
    ):

        async def ask() -> None:
            async with connected(url) as (reader, writer):
                writer.write(request_bytes)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
            await until(lambda: not sidecar.connections.open, "the connection is gone")

        await ask()
        left = await left_by(ask)
        assert not {name: count for name, count in left.items() if count >= ROUNDS}


@pytest.mark.parametrize("transport", [RECOMPUTE, WARM])
@on_uvloop
async def test_nothing_of_a_hand_over_waits_for_the_collector(
    tmp_path: Path, transport: str
) -> None:
    handoff = Handoff(transport=transport, slice_tokens=8)
    async with cluster(tmp_path, [0, 1], stage_map(100, handoff=handoff)) as service:

        async def ask() -> None:
            body = {"prompt": [300] * 60, "max_tokens": 80, "ignore_eos": True}
            assert (await stream(service[0].url, "/v1/completions", body)).done
            await service.settle()

        await ask()
        left = await left_by(ask)
        assert service.metric("cascade_handovers_total", outcome="completed") > ROUNDS
        ours = {one.__qualname__ for one in (Upstream, Session, Leg, Move, Call, HopRelay)}
        assert not {name: count for name, count in left.items() if name in ours}


async def left_by(ask: Callable[[], Awaitable[None]]) -> Counter[str]:
    """What several rounds leave to the collector, by type."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        control: list[object] = []
        control.append(control)
        del control
        for _ in range(ROUNDS):
            await ask()
        gc.collect()
        left = Counter(type(thing).__qualname__ for thing in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert left["list"] >= 1, "a cycle is found"
    return left


@pytest.mark.parametrize(
    "data", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"GET /", b"nonsense\r\n\r\n"]
)
def test_a_connection_that_is_lost_is_freed_at_once(data: bytes) -> None:
    def count() -> int:
        return sum(type(thing) is ClientConnection for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = count()
        seen = talk(data)
        seen.connection.connection_lost(None)
        assert count() == before + 1
        del seen
        assert count() == before
    finally:
        gc.enable()
