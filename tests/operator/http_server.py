"""A real HTTP(S) server on loopback that answers as a test tells it, bytes and pauses included."""

import asyncio
import json
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cascade_operator.traffic import Reading
from cascade_planner.histogram import LengthHistogram

TLS_HANDSHAKE = b"\x16"

Rows = list[dict[str, Any]]
Answer = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]
"""Writes what it likes; the connection is closed after it."""


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    query: str
    headers: Mapping[str, str]


@dataclass
class Server:
    """Where it listens, how it answers, and what it was asked."""

    url: str
    answer: Answer
    requests: list[Request] = field(default_factory=list)


@asynccontextmanager
async def serving(answer: Answer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """The server, until the end of the block; nothing of it outlives that."""
    server = Server("", answer)
    busy: set[asyncio.Task[Any]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        busy.add(task)
        # A client that hangs up is what many tests are about, and so is the end of the server.
        with suppress(OSError, EOFError, asyncio.CancelledError):
            try:
                if tls is not None:
                    # Here, and not by the listener, which forgets who has not shaken hands yet.
                    await writer.start_tls(tls)
                await _serve(server, reader, writer)
                writer.close()
                await writer.wait_closed()
            finally:
                writer.transport.abort()
                await asyncio.sleep(0)  # in which the socket is closed
        busy.discard(task)

    listener = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
        await asyncio.sleep(0)  # what was accepted a moment ago begins
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


async def _serve(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One request and its answer; like real servers it tells who speaks TLS that it does not."""
    first = await reader.readexactly(1)
    if first == TLS_HANDSHAKE:
        writer.write(head(HTTPStatus.BAD_REQUEST, 0))
        return
    request = _parse(first + await reader.readuntil(b"\r\n\r\n"))
    server.requests.append(request)
    await server.answer(request, writer)
    await writer.drain()


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    target = urlsplit(first.split(" ")[1])
    pairs = [line.partition(": ") for line in lines if line]
    query = parse_qs(target.query).get("query", [""])[0]
    return Request(target.path, query, {name.lower(): value for name, _, value in pairs})


def head(status: int, length: int | None = None, **headers: str) -> bytes:
    """The head of an answer, with words of the server's own."""
    lines = [f"HTTP/1.1 {status} the-servers-own-words", "Connection: close"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def saying(status: int, body: bytes | str, **headers: str) -> Answer:
    """Always the same answer."""
    content = body.encode() if isinstance(body, str) else body

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(status, len(content), **headers) + content)

    return answer


@dataclass(frozen=True)
class Answers:
    """The rows that a healthy Prometheus answers, by the question's own words."""

    prompts: Rows
    finals: Rows
    decoded: Rows
    age: Rows
    targets: Rows
    seconds: Rows = field(default_factory=list)
    completed: Rows = field(default_factory=list)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further members of the answer's outermost object."""

    @classmethod
    def of(cls, reading: Reading) -> "Answers":
        """What `reading` was read from."""
        return cls(
            prompts=_rows(reading.prompts, "le"),
            finals=_rows(reading.finals, "le"),
            decoded=_rows(reading.decoded, "le_length"),
            age=scalar(reading.age_seconds),
            targets=[
                {"metric": {"instance": f"10.0.0.{number}:8000"}, "value": [1.0, str(series)]}
                for number, series in enumerate(reading.series_of_targets)
            ],
        )

    def with_(self, **changes: Any) -> "Answers":
        """The same, but for `changes`."""
        return replace(self, **changes)

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        assert request.path.endswith("/api/v1/query")
        data = {"resultType": "vector", "result": self._rows(request.query)}
        body = json.dumps({"status": "success", "data": data, **self.more}).encode()
        writer.write(head(HTTPStatus.OK, len(body), Content_Type="application/json") + body)

    def _rows(self, query: str) -> Rows:
        rows = {
            "count by": self.targets,
            "time()": self.age,
            "prompt_tokens_bucket": self.prompts,
            "final_tokens_bucket": self.finals,
            "decode_tokens": self.decoded,
            "request_seconds_sum": self.seconds,
            "request_seconds_count": self.completed,
        }
        return next(found for words, found in rows.items() if words in query)


def scalar(value: float) -> Rows:
    """One row without labels."""
    return [{"metric": {}, "value": [1.0, str(value)]}]


def _rows(histogram: LengthHistogram, label: str) -> Rows:
    return [
        {
            "metric": {label: "+Inf" if math.isinf(bound) else str(bound)},
            "value": [1.0, str(rate)],
        }
        for bound, rate in histogram.buckets
    ]


def tls_of(folder: Path, name: str, clients: Path | None = None) -> ssl.SSLContext:
    """Serves NAME.crt of `folder`; asks for certificates of the authority `clients`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
