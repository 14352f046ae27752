"""Spans of requests and legs, as a collector gets them."""

import asyncio
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cascade_policy.stage_map import WARM, Handoff
from cascade_router import otlp
from cascade_router.config import InvalidConfig
from cascade_router.tracing import Untraced, tracing_of
from e2e.engine_simulator.next_token import expected_output
from tests.router.core.cluster import (
    MODEL,
    cluster,
    config_for,
    free_port,
    light_client,
    lone_sidecar,
    stage_map,
    stream,
    until,
)
from tests.router.core.collector import Collector, attributes, collector
from tests.router.core.loop import on_uvloop
from tests.router.engine_api.recording import recording_engine

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT}-01", "tracestate": "vendor=a"}
UNSAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT}-00", "tracestate": "vendor=a"}
PROMPT = [300, 301, 302]
BODY = {"model": MODEL, "prompt": PROMPT, "max_tokens": 40, "ignore_eos": True}


@pytest.fixture(autouse=True)
def short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "DELAY_SECONDS", 0.05)


@pytest.fixture
def kept() -> Iterator[Collector]:
    with collector() as found:
        yield found


@on_uvloop
async def test_a_request_and_its_legs_are_spans_of_the_clients_trace(
    tmp_path: Path, kept: Collector
) -> None:
    plan = stage_map(600, handoff=Handoff(slice_tokens=16, transport=WARM))
    prompt = [271] * 590
    settings = {"otlp_endpoint": kept.url, "trace_ratio": 0.0}
    async with cluster(tmp_path, [0, 1], plan, settings=settings) as service:
        headers = {**SAMPLED, "x-request-id": "call-1"}
        body = {"prompt": prompt, "max_tokens": 120, "ignore_eos": True}
        got = await stream(service[1].url, "/v1/completions", body, headers=headers)
        assert got.text == expected_output(prompt, 120, ignore_eos=True).text
        await until(lambda: bool(kept.named("POST /v1/completions")), "the spans have come", 30)
    (root,) = kept.named("POST /v1/completions")
    assert root.trace_id.hex() == TRACE_ID
    assert root.parent_span_id.hex() == PARENT
    shown = attributes(root)
    assert {name: shown[name] for name in shown if not name.endswith("_seconds")} == {
        "http.request.method": "POST",
        "http.route": "/v1/completions",
        "http.response.status_code": 200,
        "client.address": "127.0.0.1",
        "gen_ai.usage.input_tokens": 590,
        "gen_ai.usage.output_tokens": 120,
        "cascade.request_id": "call-1",
        "cascade.outcome": "completed",
        "cascade.streamed": True,
        "cascade.stage": 0,
        "cascade.instance": "pod-1",
        "cascade.legs": 2,
        "cascade.handovers": 1,
        "cascade.rescues": 0,
    }
    (first,), (warm,), (resumed,) = (
        kept.named(f"leg {purpose}") for purpose in ("first", "warm", "resume")
    )
    for leg in (first, warm, resumed):
        assert (leg.trace_id, leg.parent_span_id) == (root.trace_id, root.span_id)
        starts, ends = leg.start_time_unix_nano, leg.end_time_unix_nano
        assert root.start_time_unix_nano <= starts <= ends <= root.end_time_unix_nano
    assert abs(root.end_time_unix_nano / 1e9 - time.time()) < 120
    one, two, three = map(attributes, (first, warm, resumed))
    assert (one["cascade.instance"], one["cascade.outcome"]) == ("pod-0", "left")
    assert (two["cascade.instance"], two["cascade.outcome"]) == ("pod-1", "completed")
    assert (three["cascade.instance"], three["cascade.outcome"]) == ("pod-1", "completed")
    assert one["cascade.length"] == 590
    assert int(one["cascade.tokens"]) + int(three["cascade.tokens"]) == 120
    assert three["cascade.length"] == 590 + int(one["cascade.tokens"])
    assert float(three["cascade.gap_seconds"]) > 0
    assert "cascade.gap_seconds" not in one
    ours = {"service.name": "cascade-router", "cascade.service": "svc"}
    assert ours.items() <= kept.resources[0].items()


@on_uvloop
async def test_the_engine_is_given_the_span_of_its_leg_as_parent(
    tmp_path: Path, kept: Collector
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=kept.url, trace_ratio=0.0) as (_, url),
        light_client() as client,
    ):
        await client.post(url + "/v1/completions", json=BODY, headers=SAMPLED)
        await client.get(url + "/v1/models", headers=SAMPLED)
        await until(lambda: len(kept.spans) == 3, "the spans have come", 30)
    placed, asked = engine.seen
    (leg,) = kept.named("leg first")
    (question,) = kept.named("GET /v1/models")
    assert placed.headers["traceparent"] == f"00-{TRACE_ID}-{leg.span_id.hex()}-01"
    assert asked.headers["traceparent"] == f"00-{TRACE_ID}-{question.span_id.hex()}-01"
    assert placed.headers["tracestate"] == asked.headers["tracestate"] == "vendor=a"


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@on_uvloop
async def test_what_the_client_does_not_trace_is_passed_on_as_it_is(
    tmp_path: Path, kept: Collector, ratio: float
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=kept.url, trace_ratio=ratio) as (_, url),
        light_client() as client,
    ):
        await client.post(url + "/v1/completions", json=BODY, headers=UNSAMPLED)
    assert kept.spans == []
    for name, value in UNSAMPLED.items():
        assert engine.seen[0].headers[name] == value


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="no trace"),
        pytest.param({"traceparent": "00-1-2-3"}, id="a traceparent that is none"),
        pytest.param({"tracestate": "a=b"}, id="half a trace"),
    ],
)
@pytest.mark.parametrize("ratio", [0.0, 1.0])
@on_uvloop
async def test_what_belongs_to_no_trace_is_sampled(
    tmp_path: Path, kept: Collector, ratio: float, headers: dict[str, str]
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=kept.url, trace_ratio=ratio) as (_, url),
        light_client() as client,
    ):
        await client.post(url + "/v1/completions", json=BODY, headers=headers)
    # Leaving has sent what there was.
    assert len(kept.spans) == (2 if ratio else 0)
    (seen,) = engine.seen
    if ratio:
        (leg,) = kept.named("leg first")
        assert seen.headers["traceparent"].split("-")[2] == leg.span_id.hex()
    else:
        assert seen.headers.get("traceparent") == headers.get("traceparent")


@on_uvloop
async def test_a_request_that_fails_is_an_error(tmp_path: Path, kept: Collector) -> None:
    async with (
        recording_engine(lambda _, writer: writer.close()) as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=kept.url, trace_ratio=1.0) as (_, url),
        light_client() as client,
    ):
        answer = await client.post(url + "/v1/completions", json=BODY)
        assert answer.status_code == 503
    (root,) = kept.named("POST /v1/completions")
    leg, *_ = kept.named("leg first")
    assert root.status.code == leg.status.code == 2
    assert attributes(root)["cascade.outcome"] == "failed"
    assert attributes(leg)["cascade.outcome"] == "lost"


@on_uvloop
async def test_what_is_turned_away_at_the_door_is_not_traced(
    tmp_path: Path, kept: Collector
) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(
            tmp_path, engine.port, otlp_endpoint=kept.url, trace_ratio=1.0, api_keys_dir=tmp_path
        ) as (_, url),
        light_client() as client,
    ):
        answer = await client.post(url + "/v1/completions", json=BODY, headers=SAMPLED)
        assert answer.status_code == 401
        await client.get(url + "/health", headers=SAMPLED)
    assert kept.spans == []


def senders() -> list[str]:
    """Threads that send spans."""
    return [one.name for one in threading.enumerate() if "SpanRecordProcessor" in one.name]


@on_uvloop
async def test_a_collector_that_is_away_costs_spans_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "MAX_SPANS", 64)
    monkeypatch.setattr(otlp, "BATCH_SPANS", 16)
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    caplog.set_level(logging.WARNING)
    nobody = f"http://127.0.0.1:{free_port()}"
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=nobody, trace_ratio=1.0) as (_, url),
        light_client() as client,
    ):
        for _ in range(100):
            answer = await client.post(url + "/v1/completions", json=BODY)
            assert answer.status_code == 200
        await until(lambda: "dropping Span" in caplog.text, "the queue is full", 30)
        leaving = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - leaving < 20
    await until(lambda: not senders(), "nobody tries to send any more", 5)


@on_uvloop
async def test_a_collector_that_takes_connections_and_says_nothing_delays_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "CLOSE_SECONDS", 0.1)
    held: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: held.append(writer), "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port, otlp_endpoint=endpoint, trace_ratio=1.0) as (_, url),
        light_client() as client,
    ):
        await client.post(url + "/v1/completions", json=BODY)
        await until(lambda: bool(held), "it is called")
        assert (await client.post(url + "/v1/completions", json=BODY)).status_code == 200
        leaving = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - leaving < 20
    for writer in held:
        writer.close()
    silent.close()


def test_without_an_endpoint_the_libraries_are_not_loaded() -> None:
    code = (
        "import sys, cascade_router.main, cascade_router.sidecar;"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_libraries_an_endpoint_is_a_mistake_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_for(0, tmp_path, 1)
    assert isinstance(tracing_of(config), Untraced)
    monkeypatch.setitem(sys.modules, "cascade_router.otlp", None)
    with pytest.raises(InvalidConfig, match="extra `tracing`"):
        tracing_of(replace(config, otlp_endpoint="http://collector:4318"))
