"""An engine that writes down every request that reaches it, and answers as a test says."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

LISTED: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "vllm-0.32.0.json").read_text())
"""What vLLM 0.32 serves and reads; `read_wheel` made it."""


@dataclass
class Seen:
    """One request, as it came."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Seen, asyncio.StreamWriter], None]


@dataclass
class Recording:
    """What reached the engine, the router's own looks at its health and gauges left out."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """Method and target of each request."""
        return [f"{request.method} {request.target}" for request in self.seen]


def whole(body: bytes, status: int = 200, head: bytes = b"") -> bytes:
    """A whole answer."""
    line = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
    return line % (status, len(body)) + head + b"\r\n" + body


def empty_object(_: Seen, writer: asyncio.StreamWriter) -> None:
    """The answer `{}`, to everything."""
    writer.write(whole(b"{}"))


@asynccontextmanager
async def recording_engine(answer: Answer = empty_object) -> AsyncIterator[Recording]:
    """The engine, listening."""
    recording = Recording()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            while True:
                request = await _read(reader)
                if request.target in ("/health", "/metrics"):
                    writer.write(whole(b""))
                else:
                    recording.seen.append(request)
                    answer(request, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    recording.port = server.sockets[0].getsockname()[1]
    try:
        yield recording
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> Seen:
    line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = dict(_header(line) for line in lines if line)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    method, target, _ = line.split(" ", 2)
    return Seen(method, target, headers, body)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
