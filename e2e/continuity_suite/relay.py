"""A relay that breaks streams on purpose, as routers do that join two legs carelessly.

It stands before one engine and pretends that each stream changes instances at its event `SEAM`. A
suite that does not notice what it does there judges nothing.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

SEAM: Final = 20
_TEXT: Final = re.compile(rb'"(?:text|content)":"((?:[^"\\]|\\.)*)"')
_SEVERAL_BYTES: Final = re.compile(r"[^\x00-\x7f]")

Events = list[bytes]


def _drop(events: Events) -> Events:
    """A token is lost at the seam."""
    return events[1:]


def _double(events: Events) -> Events:
    """A token comes twice."""
    return [events[0], *events]


def _swap(events: Events) -> Events:
    """Two tokens change places."""
    return [events[1], events[0], *events[2:]] if len(events) > 1 else events


def _cut_character(events: Events) -> Events:
    """The first character of several bytes after the seam falls apart."""
    for place, event in enumerate(events):
        found = _TEXT.search(event)
        if found is None:
            continue
        text = found[1].decode()
        cut = _SEVERAL_BYTES.sub("\ufffd", text, count=1)
        if cut != text:
            broken = event[: found.start(1)] + cut.encode() + event[found.end(1) :]
            return [*events[:place], broken, *events[place + 1 :]]
    return events


def _changed(change: Callable[[dict[str, Any]], None]) -> Callable[[Events], Events]:
    def apply(events: Events) -> Events:
        out = []
        for event in events:
            if event.startswith(b"data: {"):
                data = json.loads(event[6:])
                change(data)
                event = b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"
            out.append(event)
        return out

    return apply


def _new_id(data: dict[str, Any]) -> None:
    """The second leg keeps its own id."""
    data["id"] += "-2"


def _usage_of_a_leg(data: dict[str, Any]) -> None:
    """The usage counts the second leg alone."""
    if data.get("usage") and not data["choices"]:
        data["usage"]["completion_tokens"] -= SEAM


def _role_again(events: Events) -> Events:
    """A chat's second leg begins with a role of its own."""
    again = []
    if b'"delta":{"content"' in events[0]:
        again = [events[0].replace(b'"delta":{', b'"delta":{"role":"assistant",', 1)]
    return [*again, *events[bool(again) :]]


def _end_early(events: Events) -> Events:
    """The stream ends at the seam, as if it were complete."""
    return [event for event in events if event == b"data: [DONE]\n\n"]


FAULTS: Final[dict[str, Callable[[Events], Events]]] = {
    "drop": _drop,
    "double": _double,
    "swap": _swap,
    "cut-character": _cut_character,
    "new-id": _changed(_new_id),
    "usage": _changed(_usage_of_a_leg),
    "role": _role_again,
    "end": _end_early,
}


@asynccontextmanager
async def broken_relay(engine_port: int, fault: str) -> AsyncIterator[str]:
    """The relay before the engine on `engine_port` of loopback; yields its URL."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(_serve(reader, writer, engine_port, FAULTS[fault]))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    engine_port: int,
    break_it: Callable[[Events], Events],
) -> None:
    """One connection: one request, answered when the engine has answered it."""
    up_reader, up_writer = await asyncio.open_connection("127.0.0.1", engine_port)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        body = await reader.readexactly(int(length[1]) if length else 0)
        up_writer.write(head.replace(b"keep-alive", b"close") + body)
        answer_head = await up_reader.readuntil(b"\r\n\r\n")
        writer.write(answer_head)
        if b"event-stream" not in answer_head:
            await _pass_body(answer_head, up_reader, writer)
            return
        events = [event async for event in _events(up_reader)]
        for event in _broken(events, break_it):
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        for one in (writer, up_writer):
            one.close()


async def _pass_body(
    head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    length = re.search(rb"content-length: (\d+)", head.lower())
    writer.write(await reader.readexactly(int(length[1]) if length else 0))
    await writer.drain()


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The events of a chunked stream, each with its empty line."""
    rest = b""
    while size := int(await reader.readline(), 16):
        rest += await reader.readexactly(size)
        await reader.readline()
        *whole, rest = rest.split(b"\n\n")
        for event in whole:
            yield event + b"\n\n"


def _broken(events: Events, break_it: Callable[[Events], Events]) -> Iterator[bytes]:
    """The stream as it comes out, if it is long enough to have a seam."""
    if len(events) <= SEAM + 1:
        yield from events
        return
    yield from events[:SEAM]
    yield from break_it(events[SEAM:])
