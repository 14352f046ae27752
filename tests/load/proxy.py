"""A proxy that damages streams on purpose."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

END = b"\n\n\r\n"
Damage = Callable[[bytes], bytes]


def lost(event: bytes) -> bytes:
    return b"" if event else event


def doubled(event: bytes) -> bytes:
    return event * 2


@asynccontextmanager
async def damaging(port: int, damage: Damage, every: int) -> AsyncIterator[int]:
    """A proxy for the engine at `port`: each `every`-th event of a connection goes through
    `damage`. Yields its own port."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)

    async def pump_damaged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        events, pending = 0, b""
        while data := await reader.read(65536):
            # An HTTP chunk holds one event and ends with the event's blank line and its own.
            *chunks, pending = (pending + data).split(END)
            for chunk in chunks:
                token = b'"finish_reason":null' in chunk and b'"role"' not in chunk
                token = token and not chunk.startswith(b"HTTP")
                events += token
                event = chunk + END
                writer.write(damage(event) if token and events % every == 0 else event)
            if pending.endswith((b"0\r\n\r\n", b"}")):
                writer.write(pending)
                pending = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                upwards = group.create_task(pump(reader, up_writer))
                await pump_damaged(up_reader, writer)
                upwards.cancel()
        finally:
            for one in (writer, up_writer):
                one.close()
                await one.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.create_task(serve(reader, writer)))

    tasks: set[asyncio.Task[None]] = set()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
