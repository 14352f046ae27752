"""Channels between real sidecars: what goes over them, and what happens when they break."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cascade_policy.arrival import Arrival
from cascade_router import limits
from cascade_router.channel import handshake
from cascade_router.channel.frames import Kind, frame
from cascade_router.outbound import Outbound
from cascade_router.pool import Pool
from cascade_router.upstream import Upstream
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    MODEL,
    Cluster,
    cluster,
    light_client,
    stage_map,
    stream,
    until,
)
from tests.router.core.loop import on_uvloop

PROMPT = [5, 6, 7]
BODY = {"prompt": PROMPT, "max_tokens": 60, "ignore_eos": True}
REQUEST = json.dumps({"model": MODEL, "stream": True, **BODY}).encode()
FAR = [1, 0]
"""Stages of two instances: the first one's clients are served by the second."""


def front_channels(service: Cluster, front: int = 0) -> list[object]:
    return list(service[front].sidecar.tools.peers._channels._channels.values())


@on_uvloop
async def test_all_streams_of_two_sidecars_share_one_connection(tmp_path: Path) -> None:
    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        want = expected_output(PROMPT, 60, ignore_eos=True)
        got = await asyncio.gather(
            *(stream(service[0].url, "/v1/completions", BODY) for _ in range(50))
        )
        assert {one.text for one in got} == {want.text}
        assert len(service[1].sidecar.channels.open) == 1
        assert len(front_channels(service)) == 1
        await service.settle()
        assert service[1].sidecar.channels.busy() == 0


@on_uvloop
async def test_streams_of_a_broken_channel_go_on_over_another(tmp_path: Path) -> None:
    async with cluster(tmp_path, [1, 0, 0], stage_map(1000)) as service:
        body = {**BODY, "max_tokens": 400}
        want = expected_output(PROMPT, 400, ignore_eos=True)
        running = [
            asyncio.create_task(stream(service[0].url, "/v1/completions", body)) for _ in range(8)
        ]
        await until(
            lambda: sum(len(one.engine.batch.running) for one in service.instances) == 8,
            "all eight run",
        )
        service[1].sidecar.channels.close()
        for got in await asyncio.gather(*running):
            assert (got.text, got.errors) == (want.text, [])
        await service.settle()
        assert service.metric("cascade_rescues_total", outcome="completed") > 0


@on_uvloop
async def test_a_silent_target_is_noticed_and_its_streams_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANNEL_PING_SECONDS", 0.1)
    monkeypatch.setattr(limits, "CHANNEL_SILENCE_SECONDS", 2.5)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.1)
    async with cluster(tmp_path, [1, 0, 0], stage_map(1000)) as service:
        want = expected_output(PROMPT, 60, ignore_eos=True)
        for silent in service.instances[1:]:
            silent.engine.faults.hang = True
        running = asyncio.create_task(stream(service[0].url, "/v1/completions", BODY))
        await until(
            lambda: any(one.sidecar.channels.busy() for one in service.instances), "it was sent"
        )
        chosen = next(one for one in service.instances if one.sidecar.channels.busy())
        for channel in chosen.sidecar.channels.open:
            # Its process hangs: the connection stays, and nothing comes any more.
            channel._transport.pause_reading()  # type: ignore[union-attr]
        for silent in service.instances[1:]:
            silent.engine.faults.hang = silent is chosen
        got = await running
        assert (got.text, got.errors) == (want.text, [])
        chosen.engine.faults.hang = False


@on_uvloop
async def test_an_unused_channel_is_closed_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CHANNEL_IDLE_SECONDS", 0.1)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.05)
    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        await stream(service[0].url, "/v1/completions", BODY)
        await until(lambda: not front_channels(service), "the channel is closed")
        await until(lambda: not service[1].sidecar.channels.open, "at both ends")
        got = await stream(service[0].url, "/v1/completions", BODY)
        assert got.done


@on_uvloop
async def test_a_slow_client_holds_its_own_stream_back_and_no_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        slow = {**BODY, "max_tokens": 3500}
        host, port = service[0].url.removeprefix("http://").split(":")
        body = json.dumps({"model": "demo", "stream": True, "return_token_ids": True, **slow})
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(
            f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
            f"{body}".encode()
        )
        want = expected_output(PROMPT, 60, ignore_eos=True)
        for _ in range(5):
            got = await stream(service[0].url, "/v1/completions", BODY)
            assert got.text == want.text
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            answer += await reader.read(65536)
        assert answer.count(b"data: {") == 3500
        writer.close()
        await service.settle()


@on_uvloop
async def test_a_pause_that_overtakes_the_call_to_the_engine_holds_its_answer_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, gate = Pool.connect, asyncio.Event()

    async def when_open(pool: Pool) -> Upstream:
        await gate.wait()
        return await connect(pool)

    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        front, target = service.instances
        monkeypatch.setattr(Pool, "connect", when_open)
        sink = Kept()
        line = front.sidecar.tools.peers.line(
            target.member, Arrival(length=3), Outbound("/v1/completions", REQUEST), sink
        )
        await line.send()
        line.pause()
        await until(
            lambda: any(one._held for one in target.sidecar.channels.open), "the pause is there"
        )
        gate.set()
        await until(lambda: target.engine.metrics.generation_tokens >= 60, "the engine answered")
        later = await stream(front.url, "/v1/completions", BODY)
        assert later.done, "what comes after it on the same channel"
        assert not sink.pieces
        line.resume()
        await until(lambda: sink.ended, "it goes on")


@on_uvloop
async def test_an_address_that_is_none_is_told_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        service[1].member = replace(service[1].member, address="10.0.0.1:http")
        service.publish()
        async with asyncio.timeout(5):
            got = await stream(service[0].url, "/v1/completions", BODY)
        assert got.headers["x-cascade-instance"] == "pod-0"


@dataclass
class Kept:
    """A sink that keeps what it gets."""

    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False

    def head(self, status: int, headers: dict[str, str]) -> None:
        """The answer begins."""

    def body(self, data: bytes) -> None:
        self.pieces.append(data)

    def leave_please(self, going: bool) -> None:
        """Nobody asks."""

    def end(self) -> None:
        self.ended = True

    def lost(self, reason: str) -> None:
        raise AssertionError(reason)


# Who is let in -----------------------------------------------------------------------------------


async def knock(url: str, hop: str, after: bytes = b"", *, upgrade: bool = True) -> bytes:
    """Ask for a channel with this header, send `after` the answer, and read to the end."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    wish = "connection: upgrade\r\nupgrade: cascade-channel\r\n" if upgrade else ""
    writer.write(
        f"GET {handshake.PATH} HTTP/1.1\r\nhost: x\r\n{wish}x-cascade-hop: {hop}\r\n\r\n".encode()
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.write(after)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            answer += await reader.read()
    writer.close()
    return answer


def good_hop(service: Cluster) -> str:
    """The header of a request to the first sidecar."""
    key, address = b"0123456789abcdef0123456789abcdef", service[0].member.address
    head = handshake.request(key, address, time.time(), "a1" * 16).decode()
    return head.partition("x-cascade-hop: ")[2].strip()


@on_uvloop
async def test_a_forged_hop_opens_no_channel(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        for value in ("", "v1.1.2.3", "x" * 600):
            response = await client.get(
                service[0].url + handshake.PATH, headers={"x-cascade-hop": value}
            )
            assert response.status_code == 403
        assert not service[0].sidecar.channels.open


@on_uvloop
async def test_a_pod_that_passes_a_handshake_on_to_a_sidecar_gets_no_prompt(
    tmp_path: Path,
) -> None:
    """An address has passed to a pod that is not of the service, and that relays what it gets to
    a sidecar that is."""
    async with cluster(tmp_path, FAR, stage_map(1000)) as service:
        host, port = service[1].url.removeprefix("http://").split(":")
        async with relay(host, int(port)) as (address, passed):
            service.instances[1].member = replace(service[1].member, address=address)
            service.publish()
            got = await stream(service[0].url, "/v1/completions", BODY)
            assert (got.text, got.headers["x-cascade-instance"]) == (
                expected_output(PROMPT, 60, ignore_eos=True).text,
                "pod-0",
            )
            assert b"x-cascade-hop" in passed, "the front has called it"
            assert b" 101 " not in passed
            assert b'"prompt"' not in passed


@asynccontextmanager
async def relay(host: str, port: int) -> AsyncIterator[tuple[str, bytearray]]:
    """A TCP server that passes everything on to host:port; its address, and what has passed."""
    passed = bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                passed.extend(data)
                writer.write(data)
        writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", passed
    finally:
        server.close()


@on_uvloop
async def test_no_more_channels_are_opened_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_CHANNELS", 0)
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        response = await client.get(
            service[0].url + handshake.PATH, headers={"x-cascade-hop": good_hop(service)}
        )
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")


@on_uvloop
async def test_a_signed_request_that_is_no_upgrade_is_refused(tmp_path: Path) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service, light_client() as client:
        response = await client.get(
            service[0].url + handshake.PATH, headers={"x-cascade-hop": good_hop(service)}
        )
        assert response.status_code == 400


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(frame(Kind.PROOF, 0, b"v1.1.x.00"), id="a proof that is none"),
        pytest.param(frame(Kind.ASK, 1, b"{}"), id="a question before the proof"),
        pytest.param(frame(Kind.OPEN, 1, b"\0\0\0\0"), id="a request before the proof"),
        pytest.param(b"\x01" + b"\0" * 4 + b"\xff" * 4, id="a proof of four gigabytes"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n" * 3, id="no frames at all"),
    ],
)
@on_uvloop
async def test_a_recorded_request_gets_no_further_than_the_challenge(
    tmp_path: Path, after: bytes
) -> None:
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await knock(service[0].url, good_hop(service), after)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert answer.endswith(b"\r\n\r\n"), "nothing was answered after the head"
        await until(lambda: not service[0].sidecar.channels.open, "the channel is closed")
        assert service[0].engine.metrics.prompt_tokens == 0


@on_uvloop
async def test_a_channel_that_is_not_proved_in_time_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(limits, "SWEEP_SECONDS", 0.05)
    async with cluster(tmp_path, [0], stage_map()) as service:
        answer = await knock(service[0].url, good_hop(service))
        assert answer.startswith(b"HTTP/1.1 101 ")
