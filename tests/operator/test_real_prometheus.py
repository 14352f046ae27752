"""Every question of the operator, asked of a real Prometheus that scrapes real routers."""

import asyncio
import json
import math
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cascade_operator.connection import Connection
from cascade_operator.faults import PrometheusError
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.reasons import Reason
from cascade_operator.traffic import Reading, traffic_of
from cascade_planner.histogram import LengthHistogram
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem
from cascade_policy.grid import length_grid
from e2e.cluster.certificates import Authority, Subject
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving as engine_serving
from tests.operator.builders import service
from tests.operator.http_server import Request, Server, head, serving
from tests.operator.test_prometheus_faults import openssl
from tests.real_prometheus import DEADLINE_SECONDS, Prometheus, client, free_port, prometheus
from tests.router.core.cluster import (
    FAST,
    MAX_LENGTH,
    MODEL,
    cluster,
    lone_sidecar,
    stage_map,
)

SENT = [(prompt, output) for prompt in (12, 90, 700, 2500) for output in (3, 40)] * 15
"""(prompt, output) in tokens of the requests of a test: enough to plan from."""
SPEC = service(model={"name": MODEL, "maxLength": MAX_LENGTH})
WINDOW = 60
SERIES = "cascade_request_prompt_tokens_count"
COUNTED = f"sum({SERIES})"
SCRAPED = f"count({SERIES})"
PASSWORD = "correct horse"
PASSWORD_HASH = "$2b$04$FVi3y6Q.bd9d2Ws8skLyAuh9xKJk9eEIawkn9DW/M71FxXeDlvcym"
SAMPLES = 15
EXTRAPOLATED = 0.15
"""Share of a rate by which Prometheus may extend it beyond that many samples."""


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with client() as found:
        yield found


async def send(http: httpx.AsyncClient, url: str, sent: list[tuple[int, int]]) -> None:
    """Unstreamed requests, a few at a time."""
    slots = asyncio.Semaphore(8)

    async def one(prompt: int, output: int) -> None:
        body = {
            "model": MODEL,
            "prompt": [7] * prompt,
            "max_tokens": output,
            "ignore_eos": True,
        }
        async with slots:
            answer = await http.post(f"{url}/v1/completions", json=body)
        assert answer.status_code == 200, answer.text

    await asyncio.gather(*(one(*lengths) for lengths in sent))


async def counted(server: Prometheus, number: int, http: httpx.AsyncClient) -> None:
    """Wait until so many requests were scraped, and enough often for a rate to be about right."""
    await server.until(COUNTED, number, http)
    await server.until(f"min(count_over_time({SERIES}[10m]))", SAMPLES, http)


async def read(server: Prometheus, namespace: str = "ns", **options: Any) -> Reading:
    """What the operator reads there."""
    connection = replace(Connection(server.url, operator_wide=True), **options)
    reader = PrometheusReader(connection)
    try:
        return await reader.read(server.url, namespace, "svc", WINDOW)
    finally:
        reader.close()


async def read_until(
    condition: Callable[[Reading], bool], server: Prometheus, what: str, namespace: str = "ns"
) -> Reading:
    """The first reading for which `condition` holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition(found := await read(server, namespace)):
        assert time.monotonic() < deadline, f"{what}: {found}"
        await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def engine() -> AsyncIterator[int]:
    """A fast engine, and its port."""
    words = ["--model", MODEL, "--port", "0", "--max-length", str(MAX_LENGTH)]
    options = read_options([*words, "--coefficients", json.dumps(dict(FAST))], {})
    async with engine_serving(options) as (_, port):
        yield port


def target(port: int, **labels: str) -> dict[str, Any]:
    """A router for Prometheus to scrape, with labels of the scrape."""
    return {"targets": [f"127.0.0.1:{port}"], "labels": labels}


def shares(histogram: LengthHistogram) -> dict[float, float]:
    """The part of all observations up to each bound."""
    total = max(rate for _, rate in histogram.buckets)
    return {bound: rate / total for bound, rate in histogram.buckets}


def requests(histogram: LengthHistogram) -> float:
    """How many requests within the window."""
    return max(rate for _, rate in histogram.buckets) * WINDOW


def decoded_by_bucket(sent: list[tuple[int, int]]) -> dict[float, int]:
    """Tokens of these requests by the bucket of the length at which they were decoded."""
    grid = length_grid(MAX_LENGTH)
    counts = dict.fromkeys(map(float, grid), 0)
    for prompt, output in sent:
        for length in range(prompt + 1, prompt + output + 1):
            counts[float(grid[bisect_left(grid, length)])] += 1
    return counts


def about(wanted: float) -> object:
    return pytest.approx(wanted, rel=EXTRAPOLATED)


async def test_what_was_sent_is_what_is_read(tmp_path: Path, http: httpx.AsyncClient) -> None:
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(cluster(tmp_path, [0, 0], stage_map()))
        addresses = [instance.member.address for instance in pool.instances]
        server = await stack.enter_async_context(prometheus(tmp_path, [{"targets": addresses}]))
        await server.until(SCRAPED, 2, http)
        half = len(SENT) // 2
        await send(http, pool[0].url, SENT[:half])
        await send(http, pool[1].url, SENT[half:])
        await counted(server, len(SENT), http)
        found = await read(server)

    assert found.series_of_targets == (1, 1)
    assert found.age_seconds < 5
    bounds = {*map(float, length_grid(MAX_LENGTH)), math.inf}
    for read_lengths, lengths in (
        (found.prompts, [prompt for prompt, _ in SENT]),
        (found.finals, [prompt + output for prompt, output in SENT]),
    ):
        assert requests(read_lengths) == about(len(SENT))
        found_shares = shares(read_lengths)
        assert bounds <= found_shares.keys()
        for bound in bounds:
            upto = sum(length <= bound for length in lengths) / len(SENT)
            assert found_shares[bound] == pytest.approx(upto, abs=0.01), bound

    wanted = decoded_by_bucket(SENT)
    tokens = sum(wanted.values())
    decoded = dict(found.decoded.buckets)
    assert sum(decoded.values()) * WINDOW == about(tokens)
    for bound, count in wanted.items():
        assert decoded[bound] / sum(decoded.values()) == pytest.approx(count / tokens, abs=0.01)

    traffic = traffic_of(found, SPEC, routers=2)
    assert isinstance(traffic, Traffic), traffic
    assert traffic.output_mean == pytest.approx(tokens / len(SENT), rel=0.05)
    half_scraped = traffic_of(found, SPEC, routers=4)
    assert isinstance(half_scraped, TrafficProblem)
    assert half_scraped.reason is ProblemReason.PARTIAL_METRICS


async def test_a_router_that_starts_anew_in_the_middle_loses_no_request_of_the_rates(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    port, half = free_port(), len(SENT) // 2
    async with engine() as engine_port, prometheus(tmp_path, [target(port)]) as server:
        for sent in (SENT[:half], SENT[half:]):
            async with lone_sidecar(tmp_path, engine_port, listen_port=port) as (_, url):
                await server.until("sum(up)", 1, http)
                await server.until(f"0 - {COUNTED}", 0, http)
                await send(http, url, sent)
                await counted(server, half, http)
        found = await read(server)
        assert requests(found.prompts) == about(len(SENT))
        assert requests(found.finals) == about(len(SENT))
        gone = await read_until(lambda found: math.isinf(found.age_seconds), server, "it is stale")
    problem = traffic_of(gone, SPEC)
    assert isinstance(problem, TrafficProblem)
    assert problem.reason is ProblemReason.STALE_METRICS
    assert "scrapes no router at present" in problem.message


async def test_installs_of_one_prometheus_are_told_apart(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """By their namespace, and where that is the same, by a label of their cluster."""
    installs = {("ns", "eu"): 40, ("ns", "us"): 20, ("other", "eu"): 10}
    ports = {install: free_port() for install in installs}
    targets = [target(port, cluster=name) for (_, name), port in ports.items()]
    async with AsyncExitStack() as stack:
        engine_port = await stack.enter_async_context(engine())
        server = await stack.enter_async_context(prometheus(tmp_path, targets))
        urls = {}
        for install, port in ports.items():
            sidecar = lone_sidecar(tmp_path, engine_port, listen_port=port, namespace=install[0])
            _, urls[install] = await stack.enter_async_context(sidecar)
        await server.until("sum(up)", len(installs), http)
        for install, number in installs.items():
            await send(http, urls[install], [(50, 5)] * number)
        await counted(server, sum(installs.values()), http)
        for (namespace, name), number in installs.items():
            found = await read(server, namespace, labels={"cluster": name})
            assert requests(found.prompts) == about(number)
            assert found.series_of_targets == (1,)
        both = await read(server, "ns")
        assert requests(both.prompts) == about(60), "without the label, two clusters are one"
        assert both.series_of_targets == (1, 1)


async def test_a_router_that_two_jobs_scrape_is_found_out(
    tmp_path: Path, http: httpx.AsyncClient
) -> None:
    port = free_port()
    targets = [target(port, replica="a"), target(port, replica="b")]
    async with (
        engine() as engine_port,
        lone_sidecar(tmp_path, engine_port, listen_port=port),
        prometheus(tmp_path, targets) as server,
    ):
        await server.until(SCRAPED, 2, http)
        twice = await read(server)
        once = await read(server, labels={"replica": "a"})
    assert twice.series_of_targets == (2,)
    assert once.series_of_targets == (1,)
    problem = traffic_of(twice, SPEC)
    assert isinstance(problem, TrafficProblem)
    assert "2 series of one router" in problem.message


@pytest.mark.parametrize("ahead", [1.5, -30.0, -200.0])
async def test_clocks_that_differ_change_the_age_alone(
    ahead: float, tmp_path: Path, http: httpx.AsyncClient
) -> None:
    """Samples with times of a clock that is some seconds ahead, or behind."""
    async with AsyncExitStack() as stack:
        engine_port = await stack.enter_async_context(engine())
        sidecar, url = await stack.enter_async_context(lone_sidecar(tmp_path, engine_port))

        async def page(_: Request, writer: asyncio.StreamWriter) -> None:
            stamp = int((time.time() + ahead) * 1000)
            lines = sidecar.tools.metrics_page().decode().splitlines()
            stamped = [line if line.startswith("#") else f"{line} {stamp}" for line in lines]
            body = ("\n".join(stamped) + "\n").encode()
            writer.write(head(200, len(body), Content_Type="text/plain; version=0.0.4") + body)

        relay: Server = await stack.enter_async_context(serving(page))
        targets = [{"targets": [relay.url.removeprefix("http://")]}]
        server = await stack.enter_async_context(prometheus(tmp_path, targets))
        await server.until(SCRAPED, 1, http)
        await send(http, url, SENT)
        await counted(server, len(SENT), http)
        found = await read(server)
    assert found.age_seconds == pytest.approx(max(0.0, -ahead), abs=5)
    problem = traffic_of(found, SPEC)
    if ahead == -200:
        assert isinstance(problem, TrafficProblem)
        assert problem.reason is ProblemReason.STALE_METRICS
    else:
        assert isinstance(problem, Traffic), problem
        assert requests(found.prompts) == about(len(SENT))


@openssl
async def test_a_prometheus_that_asks_who_is_there(tmp_path: Path) -> None:
    """TLS and basic auth of its own web.config.yml, and certificates of clients."""
    authority = Authority(tmp_path / "keys")
    authority.server("server", [], ["127.0.0.1"])
    authority.client("client", Subject("operator"))
    keys = authority.folder
    tls = {"cert_file": str(keys / "server.crt"), "key_file": str(keys / "server.key")}
    login = {"operator": PASSWORD_HASH}
    (tmp_path / "user").write_text("operator")
    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "wrong").write_text("incorrect horse")
    trusted = {"ca_file": str(keys / "ca.crt")}
    known = {"username_file": str(tmp_path / "user"), "password_file": str(tmp_path / "password")}
    certified = {
        "certificate_file": str(keys / "client.crt"),
        "key_file": str(keys / "client.key"),
    }
    async with (
        client(keys / "ca.crt", auth=("operator", PASSWORD)) as http,
        prometheus(
            tmp_path, [], {"tls_server_config": tls, "basic_auth_users": login}, "https"
        ) as server,
    ):
        await server.until("vector(1)", 1, http)
        assert (await read(server, **trusted, **known)).prompts.buckets == ()
        wrong = known | {"password_file": str(tmp_path / "wrong")}
        await refused(server, Reason.PROMETHEUS_UNAUTHORIZED, "HTTP 401", **trusted, **wrong)
        await refused(server, Reason.PROMETHEUS_UNAUTHORIZED, "HTTP 401", **trusted)
        await refused(server, Reason.PROMETHEUS_UNREACHABLE, "is not trusted", **known)
        server.secure(
            {
                "tls_server_config": {
                    **tls,
                    "client_auth_type": "RequireAndVerifyClientCert",
                    "client_ca_file": str(keys / "ca.crt"),
                },
            }
        )
        await read(server, **trusted, **certified)
        words = "whether it asks for a client certificate"
        await refused(server, Reason.PROMETHEUS_UNREACHABLE, words, **trusted)
        plain = replace(server, url=server.url.replace("https", "http"))
        words = "HTTP 400 Bad Request: check that it is a Prometheus, and that it speaks http"
        await refused(plain, Reason.PROMETHEUS_FAILED, words)


async def refused(server: Prometheus, reason: Reason, words: str, **options: str) -> None:
    with pytest.raises(PrometheusError) as caught:
        await read(server, **options)
    assert words in str(caught.value)
    assert caught.value.reason is reason
    assert "horse" not in str(caught.value)
