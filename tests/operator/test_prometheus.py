"""Reading Prometheus over HTTP, and the questions."""

import json
import math
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import pytest

from cascade_operator import queries
from cascade_operator.connection import Connection
from cascade_operator.faults import PrometheusError
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.queries import Scope
from cascade_operator.traffic import Latency

SCOPE = Scope("team", "demo")
BUCKETS = [{"metric": {"le": "16"}, "value": [1.0, "0.5"]},
           {"metric": {"le": "+Inf"}, "value": [1.0, "2"]}]  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    """The instant query of Prometheus' HTTP API, with canned answers."""

    answers: ClassVar[dict[str, list[Any]]] = {}
    status: ClassVar[int] = 200
    body: ClassVar[bytes | None] = None
    hold: ClassVar[threading.Event] = threading.Event()
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query)["query"][0]
        self.asked.append(query)
        key = next((key for key in self.answers if key in query), "")
        result = {"status": "success", "data": {"result": self.answers.get(key, [])}}
        body = json.dumps(result).encode() if self.body is None else self.body
        self.hold.wait(10)
        self.send_response(self.status, "the-servers-own-words")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(OSError):  # the reader may have hung up
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[str]:
    Handler.answers, Handler.status, Handler.body, Handler.asked = {}, 200, None, []
    Handler.hold.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Handler.hold.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def test_histograms_and_age_are_read(prometheus: str) -> None:
    Handler.answers = {
        "prompt_tokens_bucket": BUCKETS,
        "final_tokens_bucket": BUCKETS[1:],
        "decode_tokens": [{"metric": {"le_length": "16"}, "value": [1.0, "7"]}],
        "timestamp": [{"metric": {}, "value": [1.0, "3.25"]}],
        "count by": [{"metric": {"instance": "a:8000"}, "value": [1.0, "1"]}],
        "request_seconds_sum": [{"metric": {}, "value": [1.0, "7.5"]}],
        "request_seconds_count": [{"metric": {}, "value": [1.0, "1.5"]}],
    }
    found = await PrometheusReader().read(prometheus, "team", "demo", 600)
    assert found.prompts.buckets == ((16.0, 0.5), (math.inf, 2.0))
    assert found.finals.buckets == ((math.inf, 2.0),)
    assert found.decoded.buckets == ((16.0, 7.0),)
    assert found.age_seconds == 3.25
    assert found.series_of_targets == (1,)
    assert found.latency == Latency(mean_ms=5000.0, requests=900.0)
    assert Handler.asked == [
        queries.prompt_lengths(SCOPE, 600),
        queries.final_lengths(SCOPE, 600),
        queries.decoded_lengths(SCOPE, 600),
        queries.sample_age(SCOPE),
        queries.series_of_targets(SCOPE),
        queries.completed_seconds(SCOPE, 600),
        queries.completed_requests(SCOPE, 600),
    ]


@pytest.mark.parametrize(
    ("seconds", "requests"),
    [
        ("0", "0"),
        ("NaN", "NaN"),
        ("1", "0"),
        ("-1", "1"),
        ("1e308", "1e-5"),
        ("1e-320", "1e9"),
        ("1e300", "1e307"),
    ],
)
async def test_what_is_no_mean_time_is_none(seconds: str, requests: str, prometheus: str) -> None:
    Handler.answers = {
        "request_seconds_sum": [{"metric": {}, "value": [1.0, seconds]}],
        "request_seconds_count": [{"metric": {}, "value": [1.0, requests]}],
    }
    assert (await PrometheusReader().read(prometheus, "team", "demo", 600)).latency is None


async def test_no_series_is_an_answer(prometheus: str) -> None:
    found = await PrometheusReader().read(prometheus, "team", "demo", 600)
    assert found.prompts.buckets == found.decoded.buckets == ()
    assert found.age_seconds == math.inf


async def test_a_failure_names_the_address(prometheus: str) -> None:
    Handler.status = 503
    with pytest.raises(PrometheusError, match=prometheus):
        await PrometheusReader().read(prometheus, "team", "demo", 600)


@pytest.mark.parametrize("status", [401, 404, 422, 503, 799])
async def test_a_failure_says_the_status_and_nothing_of_the_answer(
    status: int, prometheus: str
) -> None:
    Handler.status, Handler.body = status, b"internal-secret"
    with pytest.raises(PrometheusError, match=f"HTTP {status}") as caught:
        await PrometheusReader().read(prometheus, "team", "demo", 600)
    assert "internal-secret" not in str(caught.value)
    assert "own-words" not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"internal-secret",
        b"{}",
        b"[]",
        b"null",
        b'{"data": null}',
        b'{"status": "success"}',
        b'{"status": "success", "data": {"result": 3}}',
        b'{"status": "success", "data": {"result": [{"value": [1, "2"]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "value": []}]}}',
        b'{"status": "success", "data": {"result": [{"metric": [], "value": [1, "2"]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "value": [1, "NaN"]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {}, "value": [1, "1e999"]}]}}',
        b"9" * 5000,
        b"[" * 100_000,
    ],
)
async def test_another_servers_answer_is_a_clear_failure(body: bytes, prometheus: str) -> None:
    Handler.body = body
    with pytest.raises(PrometheusError, match="not that of a Prometheus") as caught:
        await PrometheusReader().read(prometheus, "team", "demo", 600)
    assert "internal-secret" not in str(caught.value)


async def test_an_answer_that_does_not_come_is_given_up(prometheus: str) -> None:
    Handler.hold.clear()
    hasty = Connection(prometheus, timeout_seconds=0.05, operator_wide=True)
    with pytest.raises(PrometheusError, match=r"no full answer within 0\.05 s"):
        await PrometheusReader(hasty).read(prometheus, "team", "demo", 600)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@127.0.0.1:9/base",
        "http://user:hun/ter2@127.0.0.1:9/base",
        "http://user:hun#ter2@127.0.0.1:9/base",
        "http://127.0.0.1:9/base?token=ter2",
        "http://user:hunter2@[::1",
        "http://user:hunter2@host:port/",
    ],
)
async def test_no_secret_of_the_address_is_shown(url: str) -> None:
    with pytest.raises(PrometheusError) as caught:
        await PrometheusReader().read(url, "team", "demo", 600)
    assert "ter2" not in str(caught.value)
    assert "user" not in str(caught.value)


async def test_a_closed_port_is_said_in_one_line() -> None:
    with pytest.raises(PrometheusError, match="Connection refused") as caught:
        await PrometheusReader().read("http://127.0.0.1:9", "team", "demo", 600)
    assert "\n" not in str(caught.value)


def test_the_decode_counter_is_asked_for_by_length() -> None:
    assert queries.decoded_lengths(SCOPE, 600) == (
        "sum by (le_length) (rate(cascade_decode_tokens_total"
        '{namespace="team",service="demo"}[600s]))'
    )


def test_questions_are_about_one_service_only() -> None:
    question = queries.prompt_lengths(Scope("team", 'a"b'), 600)
    assert question == (
        "sum by (le) (rate(cascade_request_prompt_tokens_bucket"
        '{namespace="team",service="a\\"b"}[600s]))'
    )
