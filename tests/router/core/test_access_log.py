"""The access log of real sidecars: one line for each request, whatever becomes of it."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade_router import access_log
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
from tests.router.edge.mounted_secret import MountedSecret

PROMPT = [300, 301, 302]
BODY = {"prompt": PROMPT, "max_tokens": 40, "ignore_eos": True}


class Lines:
    """What has been written so far."""

    def __init__(self, reader: int) -> None:
        os.set_blocking(reader, False)
        self._reader = reader
        self._text = b""

    def all(self) -> list[dict[str, Any]]:
        """All lines, decoded."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._reader, 65536):
                self._text += data
        whole = self._text[: self._text.rfind(b"\n") + 1]
        return [json.loads(line) for line in whole.splitlines()]

    async def wait_for(self, count: int) -> list[dict[str, Any]]:
        """So many lines, and no more."""
        await until(lambda: len(self.all()) >= count, f"{count} lines are written")
        assert len(self.all()) == count
        return self.all()


@asynccontextmanager
async def logged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, stages: list[int], *ends: int, **settings: Any
) -> AsyncIterator[tuple[Cluster, Lines]]:
    """Sidecars whose stdout is a pipe."""
    reader, writer = os.pipe()
    monkeypatch.setattr(access_log, "STDOUT", writer)
    try:
        async with cluster(
            folder, stages, stage_map(*ends), settings={"access_log": True, **settings}
        ) as service:
            yield service, Lines(reader)
    finally:
        os.close(writer)
        os.close(reader)


@on_uvloop
async def test_a_stream_that_was_handed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged(tmp_path, monkeypatch, [0, 1], 20) as (service, lines):
        got = await stream(
            service[1].url, "/v1/completions", BODY, headers={"x-request-id": "call-1"}
        )
        assert got.done
        (line,) = await lines.wait_for(1)
    assert {name: line[name] for name in line if not name.endswith(("time", "_seconds"))} == {
        "request_id": "call-1",
        "client": "127.0.0.1",
        "method": "POST",
        "path": "/v1/completions",
        "status": 200,
        "outcome": "completed",
        "streamed": True,
        "stage": 0,
        "instance": "pod-1",
        "instance_stage": 1,
        "legs": 2,
        "handovers": 1,
        "rescues": 0,
        "pinned": None,
        "prompt_tokens": 3,
        "prompt_estimated": False,
        "output_tokens": 40,
        "cached_tokens": line["cached_tokens"],
    }
    assert 0 < line["ttft_seconds"] <= line["duration_seconds"]
    assert 0 < line["tpot_seconds"] < line["duration_seconds"]
    assert 0 <= line["wait_seconds"] <= line["ttft_seconds"]


@on_uvloop
async def test_a_stream_that_was_rescued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with logged(tmp_path, monkeypatch, [0, 0]) as (service, lines):
        for instance in service.instances:
            instance.engine.faults.reset_after_tokens = 10
            instance.engine.faults.reset_times = 1
        await stream(service[0].url, "/v1/completions", BODY)
        (line,) = await lines.wait_for(1)
    assert line["outcome"] == "completed"
    assert line["legs"] == 1 + line["rescues"]
    assert line["rescues"] >= 1


REFUSED = [
    pytest.param("POST", "/v1/completions", b"[1]", 400, "rejected", id="a body that is none"),
    pytest.param("GET", "/v1/completions", None, 405, "rejected", id="another method"),
    pytest.param(
        "POST", "/v1/completions", b'{"model":"other","prompt":[5]}', 404, "rejected",
        id="what the engine refuses",
    ),
    pytest.param("GET", "/v1/models", None, 200, "completed", id="a question"),
    pytest.param("POST", "/tokenize", b"{", 400, "rejected", id="a question that is none"),
    pytest.param(
        "POST", "/v1/completions", b'{"model":"demo","prompt":[5],"max_tokens":3}', 200,
        "completed", id="a whole answer",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "outcome"), REFUSED)
@on_uvloop
async def test_every_request_has_a_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    path: str,
    body: bytes | None,
    status: int,
    outcome: str,
) -> None:
    async with logged(tmp_path, monkeypatch, [0]) as (service, lines), light_client() as client:
        answer = await client.request(method, service[0].url + path, content=body)
        assert answer.status_code == status
        (line,) = await lines.wait_for(1)
    found = (line["method"], line["path"], line["status"], line["outcome"], line["request_id"])
    assert found == (method, path, status, outcome, answer.headers["x-request-id"])
    assert line["duration_seconds"] >= 0


@on_uvloop
async def test_a_path_that_is_not_served_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged(tmp_path, monkeypatch, [0]) as (service, lines), light_client() as client:
        await client.get(service[0].url + "/v1/my-secret-key")
        (line,) = await lines.wait_for(1)
    assert (line["path"], line["status"]) == (None, 404)


@on_uvloop
async def test_a_client_without_a_key_has_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = MountedSecret(tmp_path / "keys", {"k": b"key-0123456789abcdef"}).folder
    async with (
        logged(tmp_path, monkeypatch, [0], api_keys_dir=keys) as (service, lines),
        light_client() as client,
    ):
        await client.post(service[0].url + "/v1/completions", json=BODY)
        (line,) = await lines.wait_for(1)
    assert (line["status"], line["outcome"], line["legs"]) == (401, "rejected", 0)


@on_uvloop
async def test_a_client_that_leaves_before_the_answer_has_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged(tmp_path, monkeypatch, [0]) as (service, lines), light_client() as client:
        service[0].engine.faults.hang = True
        sent = {"model": MODEL, **BODY, "stream": True}
        asking = asyncio.create_task(client.post(service[0].url + "/v1/completions", json=sent))
        await until(lambda: bool(service[0].engine.batch.waiting), "the engine has it")
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError, httpx.TransportError):
            await asking
        (line,) = await lines.wait_for(1)
    assert (line["status"], line["outcome"], line["instance"]) == (None, "cancelled", "pod-0")
    assert (line["output_tokens"], line["ttft_seconds"]) == (0, None)


@on_uvloop
async def test_a_stream_that_is_cut_off_when_the_router_leaves_has_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with logged(tmp_path, monkeypatch, [0]) as (service, lines):
        service[0].engine.faults.hang = True
        asking = asyncio.create_task(stream(service[0].url, "/v1/completions", BODY))
        await until(lambda: bool(service[0].engine.batch.waiting), "the engine has it")
        await service[0].sidecar.stop()
        (line,) = lines.all()
        assert (line["outcome"], line["instance"]) == ("cancelled", "pod-0")
        with contextlib.suppress(httpx.TransportError):
            await asking


@on_uvloop
async def test_probes_have_no_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with logged(tmp_path, monkeypatch, [0]) as (service, lines), light_client() as client:
        for path in ("/health", "/ready", "/metrics", "/v1/models"):
            assert (await client.get(service[0].url + path)).status_code == 200
        (line,) = await lines.wait_for(1)
    assert line["path"] == "/v1/models"


@on_uvloop
async def test_a_router_whose_stdout_nobody_reads_serves_on_and_counts_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_log, "MAX_LINES", 5)
    monkeypatch.setattr(access_log, "CLOSE_SECONDS", 0.05)
    async with logged(tmp_path, monkeypatch, [0]) as (service, _), light_client() as client:
        # The pipe holds some hundred lines.
        os.set_blocking(access_log.STDOUT, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(access_log.STDOUT, b"x" * 4096)
        os.set_blocking(access_log.STDOUT, True)
        for _ in range(400):
            answer = await client.get(service[0].url + "/v1/models")
            assert answer.status_code == 200
        assert service.metric("cascade_access_log_dropped_total") >= 100
