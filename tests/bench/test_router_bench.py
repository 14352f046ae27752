"""The router bench: its arithmetic, its engine and client, its tables and verdicts."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI
from rich.console import Console

from cascade_router.sse import DONE_EVENT, EventSplitter
from e2e.bench.rivals.process import serving
from e2e.bench.router_bench import backend, wire
from e2e.bench.router_bench.cells import Cell, Kind, Outcome, Plan, run
from e2e.bench.router_bench.contestants import (
    DIRECT,
    FRONT,
    OURS_1,
    OURS_2,
    ROUTER,
    TARGET,
    Contestant,
    Running,
    contestants,
)
from e2e.bench.router_bench.endurance import Sample, growths
from e2e.bench.router_bench.figures import Figures, as_json
from e2e.bench.router_bench.goals import judged
from e2e.bench.router_bench.load import Load, Order
from e2e.bench.router_bench.measurement import Quantiles, Spread, added, quantiles, ratios, spread
from e2e.bench.router_bench.processes import CpuTime, cpu_time, family, memory, open_files
from e2e.bench.router_bench.report import report
from e2e.bench.router_bench.soak import judged as soak_judged
from e2e.bench.router_bench.streams import Connection, Tally, completion, connect, control, post
from tests.conftest import Golden
from tests.router.core.cluster import light_client

GOLDEN = Path(__file__).parent / "golden"
MICROSECOND = 1000
"""In nanoseconds."""


# The arithmetic.


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        pytest.param([7.0], Quantiles(7, 7), id="one value is all quantiles"),
        pytest.param([3, 1, 2], Quantiles(2, 3), id="the middle one of three is the median"),
        pytest.param(list(range(1, 101)), Quantiles(50, 99), id="a hundred values"),
        pytest.param([0.0] * 98 + [5, 9], Quantiles(0, 5), id="one in a hundred may be above p99"),
    ],
)
def test_quantiles_are_values_that_occurred(values: list[float], wanted: Quantiles) -> None:
    assert quantiles(values) == wanted


def test_no_values_have_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no value was measured"):
        quantiles([])
    assert spread([]) is None


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_at_most_one_in_a_hundred_is_above_the_99th_percentile(values: list[int]) -> None:
    found = quantiles(values)
    assert sum(value > found.p99 for value in values) <= len(values) / 100
    assert sum(value > found.p50 for value in values) <= len(values) / 2
    assert sum(value < found.p50 for value in values) <= len(values) / 2


def test_what_a_router_adds_is_told_against_the_direct_way_of_the_same_repetition() -> None:
    assert added({0: 9.0, 1: 12.0, 2: 8.0}, {0: 2.0, 1: 7.0}) == [7.0, 5.0]
    assert spread([7.0, 5.0, 11.0]) == Spread(7.0, 5.0, 11.0)


def test_a_ratio_is_to_the_best_of_the_others_in_the_same_repetition() -> None:
    others = [{0: 10.0, 1: 30.0}, {0: 20.0, 1: 15.0, 3: 0.0}]
    assert ratios({0: 12.0, 1: 15.0, 2: 9.0, 3: 9.0}, others) == [1.2, 1.0]


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        pytest.param(
            CpuTime({1: 500 * MICROSECOND}, 10, 10),
            CpuTime({1: 700 * MICROSECOND}, 13, 11),
            (200, 0.25),
            id="nanoseconds tell how much and ticks how it divides",
        ),
        pytest.param(
            CpuTime({1: 100 * MICROSECOND}, 0, 0),
            CpuTime({1: 150 * MICROSECOND, 2: 30 * MICROSECOND}, 0, 1),
            (80, 1.0),
            id="a thread that began in between counts from zero",
        ),
        pytest.param(
            CpuTime({1: 100 * MICROSECOND, 2: 900 * MICROSECOND}, 0, 0),
            CpuTime({1: 150 * MICROSECOND}, 1, 0),
            (50, 0.0),
            id="a thread that ended takes nothing away",
        ),
        pytest.param(
            CpuTime({1: 5 * MICROSECOND}, 3, 3),
            CpuTime({1: 6 * MICROSECOND}, 3, 3),
            (1, 0.0),
            id="less than a tick has no known share",
        ),
    ],
)
def test_cpu_time_between_two_readings(
    before: CpuTime, after: CpuTime, wanted: tuple[float, float]
) -> None:
    assert after.since(before) == wanted


def test_work_shows_in_the_cpu_time_of_its_process() -> None:
    before = cpu_time([os.getpid()])
    own = os.times()
    while os.times().user + os.times().system - own.user - own.system < 0.05:
        sum(range(1000))
    used, kernel = cpu_time([os.getpid()]).since(before)
    assert used > 40_000
    assert 0 <= kernel <= 1


def test_children_belong_to_the_family_and_the_dead_do_not() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert _eventually(lambda: len(family([process.pid])) == 2)
        members = family([process.pid])
        assert memory(members).rss_mb > memory(members).pss_mb > 1
        assert open_files(members) >= 6
        process.communicate(b"\n")
    assert family([process.pid]) == []


def _eventually(condition: Any) -> bool:
    """Whether it comes true; each look takes a while by itself."""
    return any(condition() for _ in range(10_000))


@pytest.mark.parametrize(
    ("sent", "received", "wanted"),
    [
        pytest.param(10, 35, 25, id="later"),
        pytest.param(wire.MICROSECONDS - 5, 7, 12, id="across the turn of the clock"),
        pytest.param(35, 35, 0, id="at once"),
    ],
)
def test_a_delay_is_the_time_between_two_stamps(sent: int, received: int, wanted: int) -> None:
    assert wire.delay_us(sent, received) == wanted


# The engine.


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


# The client.


async def test_a_client_counts_all_events_and_finds_nothing_wrong(engine: int) -> None:
    order = Order(engine, engine, streams=70, rate=2000, seconds=0.3, probes=3, settle=0.0)
    figures = await Load(order).streams()
    assert figures["wrong"] == {}
    assert figures["lostStreams"] == 0
    assert figures["events"] == figures["eventsSent"] > 70 * 32
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
LOST = "event lost, doubled or out of order"


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


# Plan, figures, tables.


def test_contestants_alternate_and_each_repetition_begins_with_another() -> None:
    cells = Plan(streams=(1, 64), repeat=2).cells(["direct", "a", "b"])
    streams = [(cell.repeat, cell.streams, cell.contestant) for cell in cells if cell.streams]
    assert [name for repeat, count, name in streams if (repeat, count) == (0, 64)] == [
        *("direct", "a", "b")
    ]
    assert [name for repeat, count, name in streams if (repeat, count) == (1, 1)] == [
        *("a", "b", "direct")
    ]
    assert len(set(cells)) == len(cells)


def test_only_our_router_is_asked_what_long_streams_take() -> None:
    cells = Plan(repeat=1).cells(list(contestants()))
    held = [cell.contestant for cell in cells if cell.kind is Kind.MEMORY]
    assert held == [OURS_1, OURS_2]


def steady(cpu: dict[str, float], p50: float, p99: float, ttft: float) -> dict[str, Any]:
    """Figures of one pace."""
    return {
        "seconds": 8.0,
        "events": 40_000,
        "cpu": {role: {"us": us, "kernel": 0.4} for role, us in cpu.items()},
        "delayUs": {"p50": p50, "p99": p99},
        "ttftUs": {"p50": ttft, "p99": 2 * ttft},
    }


def streams_outcome(
    name: str, streams: int, repeat: int, cpu: dict[str, float], delay: float
) -> Outcome:
    """A measurement of open streams that went well."""
    figures = {
        "paces": {
            wire.STEP: steady(cpu, delay, 3 * delay, 400 + delay),
            wire.SPREAD: steady({r: 2 * us for r, us in cpu.items()}, 30, 90, 300 + delay),
        },
        "memory": {
            role: {"rss_mb": 60 + streams / 50, "pss_mb": 50.0, "open_files": 2 * streams}
            for role in cpu
        },
    }
    return Outcome(Cell(Kind.STREAMS, name, streams, repeat), figures)


def recorded() -> list[Outcome]:
    """A run of two repetitions, in which one router failed."""
    used: dict[str, dict[str, float]] = {
        DIRECT: {},
        OURS_1: {FRONT: 15.0},
        OURS_2: {FRONT: 14.0, TARGET: 8.0},
        "vllm-router": {ROUTER: 14.0},
        "sglang-router": {ROUTER: 16.0},
    }
    outcomes = [
        streams_outcome(
            name,
            streams,
            repeat,
            {role: us + repeat + streams / 512 for role, us in cpu.items()},
            200 + 10 * sum(cpu.values()) + repeat,
        )
        for repeat in (0, 1)
        for streams in (64, 512)
        for name, cpu in used.items()
    ]
    broken = Cell(Kind.STREAMS, "aiohttp", 512, 0)
    outcomes.append(Outcome(broken, failure="3 x connection closed, 3 streams lost"))
    for name, rate in ((DIRECT, 60_000.0), (OURS_1, 6000.0), ("vllm-router", 12_000.0)):
        cpu = {} if name == DIRECT else {ROUTER: {"us": 1e6 / rate, "kernel": 0.3}}
        latency = {"p50": 1e7 / rate, "p99": 3e7 / rate}
        figures = {"perSecond": rate, "cpu": cpu, "latencyUs": latency}
        outcomes.append(Outcome(Cell(Kind.REQUESTS, name, 0, 0), figures))
    memory = {FRONT: {"rss_mb": 118.0, "pss_mb": 101.0}, TARGET: {"rss_mb": 75.0, "pss_mb": 60.0}}
    outcomes.append(Outcome(Cell(Kind.MEMORY, OURS_2, 1000, 0), {"memory": memory}))
    alone = steady({"engine": 4.0, "client": 5.0}, 1, 2, 3)
    outcomes.append(Outcome(Cell(Kind.CEILING, DIRECT, 512, 0), {"paces": {wire.STEP: alone}}))
    return outcomes


def test_the_tables_of_a_recorded_run(golden: Golden) -> None:
    page = StringIO()
    console = Console(width=110, file=page, color_system=None)
    for part in report(recorded(), 5000.0):
        console.print(part)
    lines = [line.rstrip() for line in page.getvalue().splitlines()]
    golden(GOLDEN / "router-bench.txt", "\n".join(lines) + "\n")


def test_the_figures_of_a_recorded_run() -> None:
    figures = as_json(recorded())
    assert figures["cpuPerEventUs"][wire.STEP][OURS_1] == {"64": 15.625, "512": 16.5}
    assert figures["cpuPerEventUs"][wire.STEP][OURS_2] == {"64": 23.25, "512": 25.0}
    assert figures["cpuPerEventUsTarget"][wire.STEP][OURS_2]["512"] == 9.5
    assert figures["cpuRatioToBestRust"][wire.STEP][OURS_1]["512"] == pytest.approx(
        (16 / 15 + 17 / 16) / 2, abs=0.001
    )
    assert figures["addedItlP99Ms"][wire.STEP][OURS_1]["64"] == pytest.approx(0.45)
    assert figures["rssMb"][wire.STEP]["vllm-router"]["512"] == pytest.approx(70.24)
    assert DIRECT not in figures["cpuPerEventUs"][wire.STEP]
    assert figures["requestsPerSecond"]["vllm-router"] == 12_000
    assert figures["failures"] == [
        {"cell": "aiohttp, 512 streams", "failure": "3 x connection closed, 3 streams lost"}
    ]
    assert json.loads(json.dumps(figures)) == figures


def test_goals_are_judged_by_the_best_rust_router() -> None:
    figures = Figures(recorded())
    goals = {goal.what: goal for goal in judged(figures.rows(), figures.held())}
    one_hop = goals["CPU per event, one hop, step, 512 streams"]
    assert (one_hop.value, one_hop.met) == ("1.06 x", False)
    assert not goals["CPU per event, both hops, step, 512 streams"].met
    assert goals["added inter-token p99, one hop, spread, 64 streams"].met
    assert not goals["added inter-token p99, one hop, step, 64 streams"].met
    assert goals["RSS with 1,000 streams of 5,000 tokens, ours-2-hops"].met


def test_a_measurement_through_both_hops_of_the_real_router() -> None:
    plan = Plan(paces=(wire.STEP,), rate=400, seconds=0.3, settle=0.0)
    outcome = run(Cell(Kind.STREAMS, OURS_2, 8, 0), contestants()[OURS_2], plan)
    assert outcome.failure is None
    used = outcome.figures["paces"][wire.STEP]["cpu"]
    assert set(used) == {FRONT, TARGET, "engine", "client"}
    assert all(one["us"] > 0 for one in used.values())
    assert outcome.figures["memory"][TARGET]["open_files"] > 8


def test_a_measurement_that_cannot_be_made_says_why() -> None:
    def broken(engine_url: str, folder: Path) -> AbstractContextManager[Running]:
        command = [sys.executable, "-c", f"raise SystemExit('no way to {engine_url}')"]
        server = serving("broken", command, 1, folder, ready="/")
        return cast(AbstractContextManager[Running], server)

    outcome = run(Cell(Kind.STREAMS, "broken", 8, 0), Contestant("broken", broken), Plan())
    assert outcome.figures == {}
    assert outcome.failure is not None
    assert "no way to http://127.0.0.1:" in outcome.failure


# Endurance.


def sample(seconds: float, rss: float, files: int) -> dict[str, Any]:
    """A line of the client."""
    one = {"rss_mb": rss, "pss_mb": rss, "open_files": files}
    return {"seconds": seconds, "memory": {FRONT: one, TARGET: one}}


END: dict[str, Any] = {
    "end": True,
    "seconds": 600,
    "before": sample(0, 70, 15)["memory"],
    "memory": sample(0, 90, 16)["memory"],
    "wrong": {},
    "lostStreams": 0,
    "events": 1000,
    "eventsSent": 1000,
}


def level(rise: float = 0.0, files: float = 0.0) -> list[dict[str, Any]]:
    """Samples of ten minutes that rise so much in each minute, after a warm-up that rises."""
    return [
        sample(s, 100 + min(s, 100) / 5 + rise * s / 60, 8000 + int(files * s / 60))
        for s in range(0, 600, 5)
    ]


@pytest.mark.parametrize(
    ("lines", "end", "words"),
    [
        pytest.param(level(), {}, "", id="a level run passes"),
        pytest.param(level(0.1), {}, "", id="less than the tolerance passes"),
        pytest.param(level(1.0), {}, "RSS of the front", id="a megabyte a minute is growth"),
        pytest.param(level(files=20), {}, "open files", id="twenty files a minute are growth"),
        pytest.param(level(), {"wrong": {LOST: 2}}, f"2 x {LOST}", id="a wrong event fails"),
        pytest.param(level(), {"lostStreams": 1}, "1 streams did not end", id="a lost one fails"),
        pytest.param(level(), {"events": 999}, "1000 events were sent, 999 came", id="a gap fails"),
        pytest.param(
            level(),
            {"memory": sample(0, 90, 80)["memory"]},
            "65 files more open",
            id="files left open fail",
        ),
        pytest.param(level()[:10], {}, "only 0 samples", id="too short a run fails"),
    ],
)
def test_a_long_run_is_judged(lines: list[dict[str, Any]], end: dict[str, Any], words: str) -> None:
    verdict, samples = soak_judged([*lines, {**END, **end}], warm_up=150)
    assert len(samples) == len(lines)
    assert verdict.passed == (not words)
    grown = [str(growth) for growth in verdict.growths if growth.grew]
    assert words in " ".join([*grown, *verdict.faults])


def test_a_client_that_breaks_off_fails_the_long_run() -> None:
    verdict, _ = soak_judged(level(), warm_up=150)
    assert verdict.faults == ["the client ended before its time"]


def test_growth_is_told_from_the_first_to_the_last_third_after_the_warm_up() -> None:
    samples = [Sample.from_json(line) for line in level(6.0)]
    front, *_ = growths(samples, [FRONT], warm_up=150)
    assert front.before == pytest.approx(120 + 6 * 222.5 / 60)
    assert front.after - front.before == pytest.approx(6 * 5, rel=0.01)
