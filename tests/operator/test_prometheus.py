"""A reading of Prometheus, over HTTP."""

import math

import pytest

from cascade_operator import queries
from cascade_operator.faults import PrometheusError
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.queries import Scope
from cascade_operator.traffic import Latency, Reading
from tests.operator.http_server import Answers, Rows, Server, serving

SCOPE = Scope("team", "demo")
NOTHING = Answers([], [], [], [], [])


def row(value: str, **labels: str) -> Rows:
    return [{"metric": labels, "value": [1.0, value]}]


async def read(server: Server) -> Reading:
    reader = PrometheusReader()
    try:
        return await reader.read(server.url, "team", "demo", 600)
    finally:
        reader.close()


async def test_histograms_age_targets_and_latency_are_read() -> None:
    answers = Answers(
        prompts=row("0.5", le="16") + row("2", le="+Inf"),
        finals=row("2", le="+Inf"),
        decoded=row("7", le_length="16"),
        age=row("3.25"),
        targets=row("1", instance="a:8000"),
        seconds=row("7.5"),
        completed=row("1.5"),
    )
    async with serving(answers) as server:
        found = await read(server)
    assert found.prompts.buckets == ((16.0, 0.5), (math.inf, 2.0))
    assert found.finals.buckets == ((math.inf, 2.0),)
    assert found.decoded.buckets == ((16.0, 7.0),)
    assert found.age_seconds == 3.25
    assert found.series_of_targets == (1,)
    assert found.latency == Latency(mean_ms=5000.0, requests=900.0)
    assert [request.query for request in server.requests] == [
        queries.prompt_lengths(SCOPE, 600),
        queries.final_lengths(SCOPE, 600),
        queries.decoded_lengths(SCOPE, 600),
        queries.sample_age(SCOPE),
        queries.series_of_targets(SCOPE),
        queries.completed_seconds(SCOPE, 600),
        queries.completed_requests(SCOPE, 600),
    ]


@pytest.mark.parametrize(
    ("seconds", "completed"),
    [
        ("0", "0"),
        ("NaN", "NaN"),
        ("1", "0"),
        ("-1", "1"),
        ("+Inf", "1"),
        ("1", "+Inf"),
        ("1e308", "1e308"),
        ("1e308", "1"),
        ("1e308", "1e-5"),
        ("1e-320", "1e9"),
    ],
)
async def test_what_is_no_mean_time_is_none(seconds: str, completed: str) -> None:
    async with serving(NOTHING.with_(seconds=row(seconds), completed=row(completed))) as server:
        assert (await read(server)).latency is None


async def test_no_series_is_an_answer() -> None:
    async with serving(NOTHING) as server:
        found = await read(server)
    assert found.prompts.buckets == found.decoded.buckets == ()
    assert (found.age_seconds, found.series_of_targets, found.latency) == (math.inf, (), None)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "1e999", "nonsense", ""])
async def test_what_is_no_number_of_series_is_no_answer_of_prometheus(value: str) -> None:
    async with serving(NOTHING.with_(targets=row(value, instance="a:8000"))) as server:
        with pytest.raises(PrometheusError, match="not that of a Prometheus"):
            await read(server)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:9/base",
        "http://127.0.0.1:9/base?token=hunter2",
        "http://user:hunter2@[::1",
        "http://user:hunter2@host:port/",
        "http://user:hunter2@a..b",
        "user:hunter2@host",
        "",
    ],
)
async def test_no_secret_of_an_address_is_shown(url: str) -> None:
    with pytest.raises(PrometheusError) as caught:
        await PrometheusReader().read(url, "team", "demo", 600)
    assert "hunter2" not in str(caught.value)
    assert "user" not in str(caught.value)


async def test_a_closed_port_is_said_in_one_line() -> None:
    with pytest.raises(PrometheusError, match="Connection refused") as caught:
        await PrometheusReader().read("http://127.0.0.1:9", "team", "demo", 600)
    assert "\n" not in str(caught.value)
