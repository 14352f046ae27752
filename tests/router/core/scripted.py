"""An engine that does exactly what a test says, byte for byte."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass
class Connection:
    """One connection of the router."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    requests: int = 0

    async def read_request(self) -> tuple[str, bytes]:
        """Path and body of the next request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = await self.reader.readexactly(length) if length else b""
        return head.split(b" ")[1].decode(), body

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.writer.write(data)

    def send_chunk(self, data: bytes) -> None:
        """One chunk of a chunked body."""
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def reset(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


Script = Callable[[Connection, str, bytes], Awaitable[None]]


@dataclass
class ScriptedEngine:
    """Answers `/health` and `/metrics` by itself and everything else by the script."""

    script: Script
    port: int = 0
    connections: list[Connection] = field(default_factory=list)
    lost: int = 0
    """Connections that the router has closed."""


@asynccontextmanager
async def scripted_engine(script: Script) -> AsyncIterator[ScriptedEngine]:
    """The engine, listening."""
    engine = ScriptedEngine(script)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(reader, writer, len(engine.connections))
        engine.connections.append(connection)
        try:
            while True:
                path, body = await connection.read_request()
                if path == "/health":
                    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                elif path == "/metrics":
                    connection.send(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
                else:
                    await engine.script(connection, path, body)
        except (asyncio.IncompleteReadError, ConnectionError):
            engine.lost += 1
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
        for connection in engine.connections:
            connection.reset()
