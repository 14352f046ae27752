"""The router bench's engine and client, one against the other."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

from cascade_router.sse import DONE_EVENT, EventSplitter
from e2e.bench.router_bench import backend, wire
from e2e.bench.router_bench.load import Load, Order
from e2e.bench.router_bench.streams import Connection, Tally, completion, connect, control, post
from tests.router.core.cluster import light_client

LOST = "event lost, doubled or out of order"


@pytest.fixture
async def engine() -> AsyncIterator[int]:
    """The port of a running engine."""
    async with backend.listening(0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
async def openai(engine: int) -> AsyncIterator[AsyncOpenAI]:
    async with (
        light_client() as http,
        AsyncOpenAI(
            base_url=f"http://127.0.0.1:{engine}/v1", api_key="none", http_client=http
        ) as client,
    ):
        yield client


async def test_the_openai_client_reads_the_engines_streams(openai: AsyncOpenAI) -> None:
    stream = await openai.completions.create(
        model=wire.MODEL,
        prompt=wire.prompt(3),
        max_tokens=3,
        stream=True,
        extra_body={"return_token_ids": True},
    )
    events = [event async for event in stream]
    choices = [event.choices[0] for event in events]
    extra = [choice.model_extra or {} for choice in choices]
    assert [int(choice.text.split()[0]) for choice in choices] == [0, 1, 2]
    assert [choice.finish_reason for choice in choices] == [None, None, "length"]
    assert {(event.id, event.model, event.object) for event in events} == {
        (events[0].id, wire.MODEL, "text_completion")
    }
    assert len(extra[0]["prompt_token_ids"]) == wire.PROMPT_TOKENS
    assert [len(one["token_ids"]) for one in extra] == [1, 1, 1]
    assert ["prompt_token_ids" in one for one in extra] == [True, False, False]


async def test_the_engine_tells_ids_to_those_who_ask_only(openai: AsyncOpenAI) -> None:
    stream = await openai.completions.create(
        model=wire.MODEL, prompt=wire.prompt(2), max_tokens=2, stream=True
    )
    choices = [event.choices[0] async for event in stream]
    assert [set(choice.model_extra or {}) for choice in choices] == [{"stop_reason"}] * 2


async def test_the_openai_client_reads_the_engines_unstreamed_answers(openai: AsyncOpenAI) -> None:
    answer = await openai.completions.create(model=wire.MODEL, prompt="4 words", max_tokens=4)
    assert answer.choices[0].text == " word" * 4
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4
    assert [model.id async for model in openai.models.list()] == [wire.MODEL]


async def test_each_event_is_one_chunk_that_the_routers_own_reader_takes(engine: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", engine)
    writer.write(completion(1, 70, stream=True))
    assert await control(engine, wire.PACE, {"mode": wire.STEP, "gap": 0.0005}) == b"{}"
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head
    events = []
    splitter = EventSplitter(10_000)
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunk = (await reader.readexactly(size + 2))[:-2]
        (event,) = splitter.feed(chunk)
        events.append(event)
    writer.close()
    await writer.wait_closed()
    assert events[-1] == DONE_EVENT
    assert len(events) == 71
    texts = [json.loads(event[6:])["choices"][0]["text"] for event in events[:-1]]
    assert [int(text.split()[0]) for text in texts] == list(range(70))


async def test_a_client_counts_all_events_and_finds_nothing_wrong(engine: int) -> None:
    order = Order(engine, engine, streams=70, rate=2000, seconds=0.3, probes=3, settle=0.0)
    figures = await Load(order).streams()
    assert figures["wrong"] == {}
    assert figures["lostStreams"] == 0
    assert figures["events"] == figures["eventsSent"] > 70 * 32
    assert figures["streamsWithIds"] == 0
    assert set(figures["paces"]) == {wire.STEP, wire.SPREAD}
    for steady in figures["paces"].values():
        assert steady["events"] > 0
        assert 0 < steady["delayUs"]["p50"] <= steady["delayUs"]["p99"]
        assert steady["cpu"]["client"]["us"] > 0
        assert steady["ttftUs"]["p50"] > 0
    assert figures["memory"]["client"]["rss_mb"] > 10


async def test_a_client_counts_unstreamed_requests(engine: int) -> None:
    order = Order(engine, engine, streams=0, seconds=0.2, requests=2, settle=0.0)
    figures = await Load(order).unstreamed()
    assert figures["wrong"] == {}
    assert figures["perSecond"] > 0
    assert figures["latencyUs"]["p50"] > 0


def event(number: int) -> bytes:
    return b'data: {"choices":[{"index":0,"text":"' + wire.STAMP % (number, 0) + b'"}]}\n\n'


DONE = wire.DONE + b"\n\n"


@pytest.mark.parametrize(
    ("payload", "wrong"),
    [
        pytest.param(event(0) + event(1) + DONE, {}, id="a whole stream is right"),
        pytest.param(event(0) + event(2) + DONE, {LOST: 1}, id="a lost event is seen"),
        pytest.param(event(0) + event(0) + DONE, {LOST: 1}, id="a doubled event is seen"),
        pytest.param(event(0), {"stream ended early": 1}, id="an end without [DONE] is seen"),
        pytest.param(
            event(0) + b'data: {"error":{"message":"gone"}}\n\n' + DONE,
            {"error in the stream": 1},
            id="an error in the stream is seen",
        ),
        pytest.param(event(0) + b": quiet\n\n" + DONE, {}, id="a comment is no event"),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 10_000])
async def test_a_client_sees_what_is_wrong_with_a_stream(
    payload: bytes, wrong: dict[str, int], piece: int
) -> None:
    tally = Tally()
    connection = Connection(tally)
    connection.send(b"")
    tally.wrong.clear()  # There is no transport to send on.
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(payload) + payload
    for start in range(0, len(answer), piece):
        connection.data_received(answer[start : start + piece])
    assert dict(tally.wrong) == wrong


async def test_a_client_sees_an_error_status(engine: int) -> None:
    tally = Tally()
    connection = await connect(engine, tally)
    await connection.send(post("/nowhere", {}))
    await connection.close()
    assert tally.wrong == {"status 404": 1}


async def test_a_client_sees_a_connection_that_is_closed_in_mid_stream() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10000\r\n\r\n" + event(0))
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(cut, "127.0.0.1", 0)
    async with server:
        tally = Tally()
        connection = await connect(server.sockets[0].getsockname()[1], tally)
        await connection.send(completion(1, 10, stream=True))
        assert (tally.events, connection.complete) == (1, False)
        assert sum(tally.wrong.values()) == 1
