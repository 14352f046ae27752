"""No key, prompt or output is ever seen from outside: in no log, line, page, metric or span.

The whole router runs at the lowest log level through requests of every kind, good and bad, with
marked words wherever a client or an engine can write some. Then everything that anybody could read
is searched for the marks.
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade_router import access_log, faults, limits, otlp
from cascade_router.answers import PinnedStream, WholeAnswer
from cascade_router.api import STATE_PATH
from cascade_router.hop import sign, signed_text
from cascade_router.membership import Member, View
from cascade_router.resumable import ResumableStream
from cascade_router.sidecar import Sidecar
from tests.router.core.cluster import light_client, lone_sidecar, stage_map, until
from tests.router.core.collector import Collector, collector
from tests.router.core.loop import on_uvloop
from tests.router.core.scripted import STREAM_HEAD
from tests.router.core.test_sse import completion
from tests.router.edge.mounted_secret import MountedSecret
from tests.router.engine_api.recording import Recording, Seen, recording_engine, whole

MARK = "xq7z"
"""Part of everything that must not be seen."""
KEY = f"{MARK}-key-of-a-client"
WRONG_KEY = f"{MARK}-key-of-nobody"
HOP_KEY = b"0123456789abcdef0123456789abcdef"
PROMPT = f"{MARK} prompt"
OUTPUT = f"{MARK} output"
GOOD = {"authorization": f"Bearer {KEY}"}
NOISE = {
    "cookie": f"{MARK}=cookie",
    "x-forwarded-for": f"{MARK}.example",
    "user-agent": f"{MARK}/1.0",
    "tracestate": f"{MARK}=state",
    "x-cascade-trace": MARK,
}
ID_MARK = 424_242_424_242
"""A token id that tells of a prompt."""
PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages",
         "/v1/embeddings", "/tokenize", "/detokenize", "/v1/messages/count_tokens")  # fmt: skip


def events(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)


def first() -> bytes:
    return completion(OUTPUT, [ID_MARK], prompt=[ID_MARK])


ECHO = json.dumps({"error": {"message": f"cannot answer {PROMPT}: {OUTPUT}", "code": MARK}})
ANSWERS: dict[str, bytes] = {
    "a stream": STREAM_HEAD
    + events(first(), completion(OUTPUT, [5], "stop"), b"data: [DONE]\n\n")
    + b"0\r\n\r\n",
    "a whole answer": whole(json.dumps({"choices": [{"text": OUTPUT}]}).encode()),
    "a refusal that repeats the prompt": whole(ECHO.encode(), 400),
    "a failure that repeats the prompt": whole(ECHO.encode(), 500),
    "an error in the stream": STREAM_HEAD + events(first(), b"data: " + ECHO.encode() + b"\n\n"),
    "an error before the stream": STREAM_HEAD + events(b"data: " + ECHO.encode() + b"\n\n"),
    "a stream that breaks": STREAM_HEAD + events(first()) + b"40\r\ndata: " + OUTPUT.encode(),
    "events that are no JSON": STREAM_HEAD + events(b"data: {" + OUTPUT.encode() + b"\n\n"),
    "an answer that is no HTTP": f"{OUTPUT} 200\r\n\r\n".encode(),
    "a status that is none": f"HTTP/1.1 9x9 {OUTPUT}\r\n\r\n".encode(),
    "a head that repeats the prompt": whole(b"{}", 200, f"x-{MARK}: {PROMPT}\r\n".encode()),
    "chunks that are none": STREAM_HEAD + OUTPUT.encode() + b"\r\n",
    "a text for ids": whole(json.dumps({"prompt": OUTPUT, "count": MARK}).encode()),
}


@dataclass
class Seeing:
    """All that could be seen of the routers."""

    lines: bytes = b""
    pages: list[bytes] = field(default_factory=list)


@dataclass
class Service:
    """A front and a second sidecar, before one engine."""

    url: str
    near: Sidecar
    far: Sidecar
    engine: Recording
    client: httpx.AsyncClient
    seeing: Seeing
    answer: str = "a stream"

    async def send(self, path: str, body: bytes | None, method: str = "POST", **more: str) -> None:
        """Send a request, whatever comes of it, and look at the pages."""
        with contextlib.suppress(httpx.HTTPError, TimeoutError):
            async with asyncio.timeout(20):
                await self.client.request(
                    method, self.url + path, content=body, headers={**GOOD, **NOISE, **more}
                )
        await self.look()

    async def look(self) -> None:
        """What pages show now."""
        text = signed_text(STATE_PATH, self.url.removeprefix("http://"))
        hop = sign(HOP_KEY, text, time.time(), "a1" * 16)
        for path in (STATE_PATH, "/metrics"):
            answer = await self.client.get(self.url + path, headers={"x-cascade-hop": hop})
            assert answer.status_code == 200
            self.seeing.pages.append(answer.content)


@pytest.fixture
def kept() -> Iterator[Collector]:
    with collector() as found:
        yield found


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seeing]:
    """The access log is read all the time, so that no line is dropped."""
    reader, writer = os.pipe()
    monkeypatch.setattr(access_log, "STDOUT", writer)
    found = Seeing()

    def read() -> None:
        while data := os.read(reader, 65536):
            found.lines += data

    reading = threading.Thread(target=read)
    reading.start()
    yield found
    os.close(writer)
    reading.join(10)
    os.close(reader)


@asynccontextmanager
async def service(folder: Path, kept: Collector, seeing: Seeing) -> AsyncIterator[Service]:
    asyncio.get_running_loop().set_exception_handler(faults.handle)
    keys = MountedSecret(folder / "keys", {"k": KEY.encode(), "short": f"{MARK}-short".encode()})
    settings: dict[str, Any] = {
        "access_log": True,
        "otlp_endpoint": kept.url,
        "trace_ratio": 1.0,
        "api_keys_dir": keys.folder,
    }
    made: list[Service] = []

    def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWERS[made[0].answer])
        if made[0].answer not in ("a whole answer", "a stream"):
            writer.close()

    async with (
        recording_engine(answer) as engine,
        lone_sidecar(folder, engine.port, **settings) as (near, url),
        lone_sidecar(folder, engine.port, **settings) as (far, far_url),
        light_client() as client,
    ):
        members = (
            Member("pod-near", url.removeprefix("http://"), 0),
            Member("pod-far", far_url.removeprefix("http://"), 0),
        )
        for sidecar in (near, far):
            sidecar.use(View(stage_map(), members, 0))
        made.append(Service(url, near, far, engine, client, seeing))
        yield made[0]


def bodies() -> Iterator[bytes]:
    """Bodies that every path gets: good ones and bad ones."""
    messages = [{"role": "user", "content": PROMPT}]
    inner = {"prompt": PROMPT, "messages": messages, "input": PROMPT, "system": PROMPT}
    for stream in (True, False):
        base = {"model": MARK, "stream": stream, "max_tokens": 5}
        yield json.dumps({**base, **inner}).encode()
        yield json.dumps({**base, **inner, "prompt": [ID_MARK, ID_MARK]}).encode()
        yield json.dumps({**base, **inner, "n": 2, f"field-{MARK}": PROMPT}).encode()
    yield json.dumps({**inner, "tools": [{"name": MARK}], "tool_choice": MARK}).encode()
    yield json.dumps({**inner, "request_id": f"{MARK}__{MARK}"}).encode()
    yield json.dumps({**inner, "kv_transfer_params": {MARK: PROMPT}}).encode()
    yield json.dumps({**inner, "vllm_xargs": {"kv_transfer_params": MARK}}).encode()
    yield json.dumps({**inner, "priority": MARK}).encode()
    yield json.dumps({"previous_response_id": MARK, "input": PROMPT}).encode()
    yield json.dumps({"background": True, "input": PROMPT}).encode()
    yield f'{{"prompt": "{PROMPT}'.encode()
    yield f'["{PROMPT}"]'.encode()
    yield f'{{"prompt": {PROMPT}}}'.encode()
    yield f'{{"max_tokens": "{MARK}", "prompt": ["{PROMPT}", 5]}}'.encode()
    yield b'{"prompt": "' + PROMPT.encode() + b'\xff\xfe"}'
    yield b'{"prompt":' + b"[" * 3000 + PROMPT.encode()


ODD_PATHS = [
    f"/v1/{MARK}",
    f"/v1/responses/{MARK}",
    f"/v1/responses/{MARK}/cancel",
    f"/v1/models?api_key={MARK}",
    f"/{MARK}/../v1/models",
]
JUNK = [
    f"GET /{MARK} HTTP/1.1\r\nhost: x\r\nbad header {MARK}\r\n\r\n",
    f"{MARK} / HTTP/1.1\r\n\r\n",
    f"POST /v1/completions HTTP/1.1\r\ncontent-length: {MARK}\r\n\r\n",
    f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: {MARK}\r\n\r\n{PROMPT}",
    f"GET /_cascade/channel HTTP/1.1\r\nhost: x\r\nx-cascade-hop: v1.1.{MARK}.{MARK}\r\n\r\n",
    f"GET /v1/models HTTP/1.1\r\nhost: x\r\nupgrade: {MARK}\r\nconnection: upgrade\r\n\r\n",
]


async def send_raw(url: str, data: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data.encode())
    writer.write_eof()
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()


def fails(*args: Any, **kwargs: Any) -> Any:
    """Stands for a fault of the router: an exception that repeats what it was given."""
    raise ValueError(f"{PROMPT} {OUTPUT} {args!r} {kwargs!r}")


FAULTS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("placing", lambda patch: patch.setattr("cascade_router.placing.prompt_blocks", fails)),
    ("a stream's bytes", lambda patch: patch.setattr(ResumableStream, "feed", fails)),
    ("a pinned stream's", lambda patch: patch.setattr(PinnedStream, "feed", fails)),
    ("a whole answer's", lambda patch: patch.setattr(WholeAnswer, "feed", fails)),
    ("the front", lambda patch: patch.setattr("cascade_router.front.parse", fails)),
    ("questions", lambda patch: patch.setattr("cascade_router.asks.sample", fails)),
]


async def _send_everything(one: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """All bodies to all paths, all answers of the engine, wrong keys, junk, and faults inside."""
    for path in PATHS:
        for body in bodies():
            await one.send(path, body)
    stream, ids, _, plain, *_ = bodies()
    for one.answer in ANSWERS:
        for path in PATHS:
            for body in (stream, plain):
                await one.send(path, body)
        await one.send("/v1/models", None, "GET")
    for path in ODD_PATHS:
        for method in ("GET", "POST", "DELETE"):
            await one.send(path, PROMPT.encode(), method)
    for wrong in (WRONG_KEY, ""):
        await one.send("/v1/messages", plain, authorization=f"Bearer {wrong}")
        await one.send("/v1/messages", plain, authorization="", **{"x-api-key": wrong})
    for data in JUNK:
        await send_raw(one.url, data)
    one.answer = "a stream"
    for _, damage in FAULTS:
        with monkeypatch.context() as patch:
            damage(patch)
            for body in (stream, plain, ids):
                await one.send("/v1/completions", body)
            one.near.tools.own.healthy = False
            await one.send("/tokenize", plain)
            one.near.tools.own.healthy = True
    await one.send("/v1/completions", stream)


def _assert_hidden(seen: dict[str, bytes]) -> None:
    for what, text in seen.items():
        for mark in (MARK, str(ID_MARK), MARK.upper(), HOP_KEY.decode()):
            at = text.find(mark.encode())
            assert at < 0, f"{what}: ...{text[max(0, at - 300) : at + 100]!r}"


@on_uvloop
async def test_nothing_that_clients_or_engines_write_is_seen(
    tmp_path: Path,
    kept: Collector,
    seeing: Seeing,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for of_the_test in ("httpx", "httpcore"):
        caplog.set_level(logging.CRITICAL, of_the_test)
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(otlp, "DELAY_SECONDS", 0.05)
    monkeypatch.setattr(limits, "REPLACE_SECONDS", 0.1)
    async with service(tmp_path, kept, seeing) as one:
        await _send_everything(one, monkeypatch)
        await until(lambda: not (one.near.tools.sessions or one.far.tools.sessions), "all ended")
        sent = len(one.engine.seen)
        await one.look()
    shown = capfd.readouterr()
    seen = {
        "the log": "\n".join(
            f"{record.name} {record.getMessage()} {record.exc_text or ''} {record.exc_info or ''}"
            for record in caplog.records
        ).encode(),
        "the formatted log": caplog.text.encode(),
        "the access log": seeing.lines,
        "the pages": b"".join(seeing.pages),
        "the spans": kept.raw,
        "stdout and stderr": (shown.out + shown.err).encode(),
    }
    _assert_hidden(seen)
    # What was searched is what was to be searched.
    log = seen["the log"]
    assert sent > 200
    assert seeing.lines.count(b"\n") > 400
    assert len(kept.spans) > 400
    assert b"was lost in mid-request" in log
    assert log.count(b"by a fault of the router: ValueError at test_secrecy.py") >= 3
    assert b"a fault that nobody caught: ValueError at test_secrecy.py" in log
    assert b"the API key short is ignored" in log
    assert b"hop header that is not for us" in log
