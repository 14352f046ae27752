"""The engine of the bench: `python -m e2e.bench.router_bench.backend --port N`.

Streams completions in the shape of vLLM 0.32, one chunk per event, made of prebuilt pieces and
written straight to the socket, so that it costs little beside what is measured and the stamp in an
event is the time at which it was sent. A stream begins with as many events as its prompt asks for;
then all streams go on at the pace that the client sets: in steps (each stream gets an event in one
burst, as of a batch) or spread (one event after the other, evenly over the time).
"""

import argparse
import asyncio
import ctypes
import errno
import gc
import itertools
import json
import os
import re
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from time import monotonic_ns
from typing import Any, Final, cast

import uvloop

from e2e.bench.router_bench import wire

CREATED: Final = 1_700_000_000
TAILS: Final = 1024
BURST: Final = 64
"""Events in one write while a stream catches up."""
MOST_BEHIND: Final = 1024
"""Events that are made up for at once when the engine is late; what is beyond is left out, so that
an engine at its limit still hears."""
ANSWER_TOKENS: Final = 16

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_MAX_TOKENS: Final = re.compile(rb'"max_tokens": *([0-9]+)')
_HEAD: Final = re.compile(rb'"prompt": *"([0-9]+) ')
_STREAM: Final = re.compile(rb'"stream": *true')
_IDS: Final = re.compile(rb'"return_token_ids": *true')
_STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_LAST_CHUNKS: Final = b"e\r\n" + wire.DONE + b"\n\n\r\n0\r\n\r\n"
_CLOCK_MONOTONIC: Final = 1
_NONBLOCK_CLOEXEC: Final = 0o2004000

TOKEN_IDS: Final = [10_000 + 7919 * number % 90_000 for number in range(TAILS)]
"""Five digits each, as most ids of a vocabulary of 128,000 have."""
PROMPT_IDS: Final = ",".join(str(number) for number in TOKEN_IDS[: wire.PROMPT_TOKENS]).encode()
ID_TAILS: Final = [b',"token_ids":[%d]}]}\n\n\r\n' % number for number in TOKEN_IDS]


def _event_head(identity: bytes) -> bytes:
    return (
        b'data: {"id":"%b","object":"text_completion","created":%d,"model":"%b",'
        b'"choices":[{"index":0,"text":"' % (identity, CREATED, wire.MODEL.encode())
    )


def _after_text(finish: bytes) -> bytes:
    return b'","logprobs":null,"finish_reason":%b,"stop_reason":null' % finish


class Stream:
    """One answer in events."""

    def __init__(self, connection: "Connection", identity: bytes, limit: int, ids: bool) -> None:
        self.sent = 0
        self.limit = limit
        self._connection = connection
        self._identity = identity
        self._ids = ids
        after = _after_text(b"null")
        tail = ID_TAILS[0] if ids else b"}]}\n\n\r\n"
        length = len(_event_head(identity)) + wire.STAMP_BYTES + len(after) + len(tail) - 2
        self._before = b"%x\r\n" % length + _event_head(identity) + wire.STAMP + after
        self._tails = ID_TAILS if ids else [tail] * TAILS

    def event(self) -> bytes:
        """The next event in mid-stream, as a chunk."""
        number = self.sent
        self.sent = number + 1
        stamp = monotonic_ns() // 1000 % wire.MICROSECONDS
        return self._before % (number % wire.NUMBERS, stamp) + self._tails[number % TAILS]

    def first(self) -> bytes:
        """The first event: it tells the prompt's ids where ids were asked for."""
        return self._special(b"null", PROMPT_IDS if self._ids else None)

    def last(self, finish: bytes) -> bytes:
        """The last event and what ends the answer."""
        return self._special(finish, None) + _LAST_CHUNKS

    def step(self) -> None:
        """Send the next event."""
        if self.sent + 1 >= self.limit:
            self.end(b'"length"')
        else:
            self._connection.send_now(self.event())

    def end(self, finish: bytes) -> None:
        """Send the last event."""
        self._connection.end_stream(self.last(finish))

    def _special(self, finish: bytes, prompt_ids: bytes | None) -> bytes:
        number = self.sent
        self.sent = number + 1
        payload = _event_head(self._identity)
        payload += wire.STAMP % (number % wire.NUMBERS, wire.now_us()) + _after_text(finish)
        if prompt_ids is not None:
            payload += b',"prompt_token_ids":[%b]' % prompt_ids
        if self._ids:
            payload += b',"token_ids":[%d]' % TOKEN_IDS[number % TAILS]
        payload += b"}]}\n\n"
        return b"%x\r\n%b\r\n" % (len(payload), payload)


class Engine:
    """All open streams, and the pace at which they go on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.streams: dict[Stream, None] = {}
        self.connections: dict[Connection, asyncio.Event] = {}
        """With what is set when they are closed."""
        self.ended_events = 0
        self._loop = loop
        self._numbers = itertools.count()
        self._timer = _Timer()
        self._ring: list[Stream] = []
        self._changed = False
        self._next = 0
        self._tick: Callable[[], None] = self._step
        self._most_ticks = 1

    def identity(self) -> bytes:
        """The id of a new answer."""
        return b"cmpl-%032x" % next(self._numbers)

    def pace(self, mode: str, gap: float) -> None:
        """Go on from here: `gap` seconds between two events of a stream."""
        self._loop.remove_reader(self._timer.fd)
        if mode == wire.NO_PACE:
            self._timer.set(0)
            return
        step = mode == wire.STEP
        self._tick = self._step if step else self._spread
        streams = max(1, len(self.streams))
        self._most_ticks = max(1, MOST_BEHIND // (streams if step else 1))
        self._timer.set(gap if step else gap / streams)
        self._loop.add_reader(self._timer.fd, self._on_timer)

    def finish(self) -> int:
        """End all streams; how many events were sent in all."""
        self.pace(wire.NO_PACE, 0)
        for stream in list(self.streams):
            stream.end(b'"stop"')
        return self.ended_events

    async def close(self) -> None:
        """Cut all clients off."""
        self.pace(wire.NO_PACE, 0)
        open_ones = list(self.connections.items())
        for connection, _ in open_ones:
            connection.abort()
        for _, closed in open_ones:
            await closed.wait()
        os.close(self._timer.fd)

    def add(self, stream: Stream) -> None:
        """A stream begins."""
        self.streams[stream] = None
        self._changed = True

    def remove(self, stream: Stream) -> None:
        """A stream has ended or its client is gone."""
        del self.streams[stream]
        self._changed = True
        self.ended_events += stream.sent

    def _on_timer(self) -> None:
        for _ in range(min(self._timer.expirations(), self._most_ticks)):
            if self._changed:
                self._ring, self._changed = list(self.streams), False
            self._tick()

    def _step(self) -> None:
        for stream in self._ring:
            stream.step()

    def _spread(self) -> None:
        if self._ring:
            self._next = (self._next + 1) % len(self._ring)
            self._ring[self._next].step()


class _Timer:
    """A timer of the kernel as a file: exact to microseconds, and it counts what was missed."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, seconds: float) -> None:
        """Expire every `seconds`; 0 stops."""
        whole, part = divmod(round(seconds * 1e9), 1_000_000_000)
        value = struct.pack("llll", whole, part, whole, part)
        if self._libc.timerfd_settime(self.fd, 0, value, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def expirations(self) -> int:
        """How often it expired since it was asked last."""
        try:
            return int.from_bytes(os.read(self.fd, 8), "little")
        except BlockingIOError:
            return 0


class Connection(asyncio.Protocol):
    """One client: reads requests, writes answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._queued = False
        self._buffer = b""
        self._stream: Stream | None = None
        self._owed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._engine.connections[self] = asyncio.Event()
        self._transport.set_write_buffer_limits(high=0)
        self._fd = transport.get_extra_info("socket").fileno()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._drop_stream()
        self._engine.connections.pop(self).set()

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
            self._send_json(_MODELS)
        elif path == wire.PACE.encode():
            wanted = json.loads(body)
            self._engine.pace(wanted["mode"], float(wanted["gap"]))
            self._send_json(b"{}")
        elif path == wire.FINISH.encode():
            self._send_json(b'{"events":%d}' % self._engine.finish())
        else:
            self._send_json(b'{"detail":"Not Found"}', b"404 Not Found")

    def _complete(self, body: bytes) -> None:
        limit = int(found[1]) if (found := _MAX_TOKENS.search(body)) else ANSWER_TOKENS
        if not _STREAM.search(body):
            before, after = _whole_answer(limit)
            self._send_json(before + self._engine.identity() + after)
            return
        head = int(found[1]) if (found := _HEAD.search(body)) else 1
        stream = Stream(self, self._engine.identity(), limit, _IDS.search(body) is not None)
        self._stream = stream
        self._engine.add(stream)
        if limit <= 1:
            self.send_now(_STREAM_HEAD)
            stream.end(b'"length"')
            return
        self.send_now(_STREAM_HEAD + stream.first())
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


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


_MODELS: Final = _json(
    {
        "object": "list",
        "data": [
            {
                "id": wire.MODEL,
                "object": "model",
                "created": CREATED,
                "owned_by": "vllm",
                "root": wire.MODEL,
                "parent": None,
                "max_model_len": 131072,
            }
        ],
    }
)


@cache
def _whole_answer(tokens: int) -> tuple[bytes, bytes]:
    """What stands before and after the id in an unstreamed answer."""
    choice = {"index": 0, "text": " word" * tokens, "logprobs": None}
    answer = {
        "object": "text_completion",
        "created": CREATED,
        "model": wire.MODEL,
        "choices": [{**choice, "finish_reason": "length", "stop_reason": None}],
        "usage": {
            "prompt_tokens": wire.PROMPT_TOKENS,
            "total_tokens": wire.PROMPT_TOKENS + tokens,
            "completion_tokens": tokens,
        },
    }
    return b'{"id":"', b'",' + _json(answer)[1:]


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[asyncio.Server]:
    """The engine, listening on `port` of loopback (0: any)."""
    loop = asyncio.get_running_loop()
    engine = Engine(loop)
    server = await loop.create_server(
        lambda: Connection(engine), "127.0.0.1", port, backlog=4096, start_serving=True
    )
    try:
        yield server
    finally:
        server.close()
        await engine.close()


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
