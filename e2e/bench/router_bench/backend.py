"""The engine of the bench: `python -m e2e.bench.router_bench.backend --port N`.

Streams completions in the shape of vLLM 0.32, one chunk per event, made of prebuilt pieces and
written straight to the socket, so that it costs little beside what is measured and the stamp in an
event is the time at which it was sent. A stream begins with as many events as its prompt asks for;
then all streams go on at the pace that the client sets: in steps (each stream gets an event in one
burst, as of a batch) or spread (one event after the other, evenly over the time).
"""

import argparse
import asyncio
import errno
import gc
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

import uvloop

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.answers import MODELS, STREAM_HEAD, Stream, whole_answer
from e2e.bench.router_bench.pacing import Engine

BURST: Final = 64
"""Events in one write while a stream catches up."""
ANSWER_TOKENS: Final = 16

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_MAX_TOKENS: Final = re.compile(rb'"max_tokens": *([0-9]+)')
_HEAD: Final = re.compile(rb'"prompt": *"([0-9]+) ')
_STREAM: Final = re.compile(rb'"stream": *true')
_IDS: Final = re.compile(rb'"return_token_ids": *true')


class Connection(asyncio.Protocol):
    """One client: reads requests, writes answers."""

    def __init__(self, engine: Engine, open_ones: "set[Connection]") -> None:
        self.closed = asyncio.Event()
        self._engine = engine
        self._open_ones = open_ones
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._queued = False
        self._buffer = b""
        self._stream: Stream | None = None
        self._owed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_ones.add(self)
        self._transport.set_write_buffer_limits(high=0)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._drop_stream()
        self._open_ones.discard(self)
        self.closed.set()

    def pause_writing(self) -> None:
        self._queued = True

    def resume_writing(self) -> None:
        self._queued = False
        self._catch_up()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._stream is None and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._buffer) < whole:
                return
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            method, path, _ = head.split(b" ", 2)
            self._answer(method, path, body)

    def send_now(self, data: bytes) -> None:
        """Send at once what the socket takes; the transport sends the rest, in order."""
        if self._transport is None or self._transport.is_closing():
            return  # The number of its file may belong to another connection already.
        if self._queued:
            self._transport.write(data)
            return
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                raise
            self._transport.abort()
            return
        if sent < len(data):
            self._transport.write(data[sent:])
            # The socket may have taken it after all, and then nobody tells of it.
            self._queued = self._transport.get_write_buffer_size() > 0

    def abort(self) -> None:
        """Cut this client off."""
        if self._transport is not None:
            self._transport.abort()

    def end_stream(self, data: bytes) -> None:
        """Send the end of the running answer."""
        self.send_now(data)
        self._drop_stream()

    # Answers ---------------------------------------------------------------------------------

    def _answer(self, method: bytes, path: bytes, body: bytes) -> None:
        if path == wire.COMPLETIONS.encode() and method == b"POST":
            self._complete(body)
        elif path == b"/health":
            self._send_json(b"")
        elif path == b"/v1/models":
            self._send_json(MODELS)
        elif path == wire.PACE.encode():
            wanted = json.loads(body)
            self._engine.pace(wanted["mode"], float(wanted["gap"]))
            self._send_json(b"{}")
        elif path == wire.FINISH.encode():
            counted = {"events": self._engine.finish()}
            counted["streamsWithIds"] = self._engine.streams_with_ids
            self._send_json(json.dumps(counted).encode())
        else:
            self._send_json(b'{"detail":"Not Found"}', b"404 Not Found")

    def _complete(self, body: bytes) -> None:
        limit = int(found[1]) if (found := _MAX_TOKENS.search(body)) else ANSWER_TOKENS
        if not _STREAM.search(body):
            before, after = whole_answer(limit)
            self._send_json(before + self._engine.identity() + after)
            return
        head = int(found[1]) if (found := _HEAD.search(body)) else 1
        stream = Stream(self, self._engine.identity(), limit, _IDS.search(body) is not None)
        self._stream = stream
        self._engine.add(stream)
        if limit <= 1:
            self.send_now(STREAM_HEAD)
            stream.end(b'"length"')
            return
        self.send_now(STREAM_HEAD + stream.first())
        self._owed = min(head, limit) - 1
        self._catch_up()

    def _catch_up(self) -> None:
        """Send what the stream should begin with, as fast as its reader takes it."""
        stream = self._stream
        while self._owed > 0 and stream is not None and not self._queued:
            count = min(self._owed, BURST)
            self._owed -= count
            if stream.sent + count >= stream.limit:
                self.send_now(b"".join(stream.event() for _ in range(count - 1)))
                stream.end(b'"length"')
                return
            self.send_now(b"".join(stream.event() for _ in range(count)))

    def _send_json(self, body: bytes, status: bytes = b"200 OK") -> None:
        self.send_now(
            b"HTTP/1.1 %b\r\nserver: uvicorn\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (status, len(body), body)
        )

    def _drop_stream(self) -> None:
        stream, self._stream = self._stream, None
        self._owed = 0
        if stream is not None:
            self._engine.remove(stream)


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[asyncio.Server]:
    """The engine, listening on `port` of loopback (0: any)."""
    loop = asyncio.get_running_loop()
    engine, open_ones = Engine(loop), set[Connection]()
    server = await loop.create_server(
        lambda: Connection(engine, open_ones), "127.0.0.1", port, backlog=4096, start_serving=True
    )
    try:
        yield server
    finally:
        server.close()
        engine.close()
        for connection in list(open_ones):
            connection.abort()
            await connection.closed.wait()


async def _run(port: int) -> None:
    async with listening(port) as server:
        gc.collect()
        gc.disable()
        await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m e2e.bench.router_bench.backend")
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_run(parser.parse_args().port))


if __name__ == "__main__":
    main()
