"""Plans from Prometheus: a real one that scrapes a real engine simulator, and all that can fail."""

import asyncio
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlparse

import httpx
import pytest

from cascade_cli.prometheus import MAX_ANSWER_BYTES, Connection, read_prometheus
from e2e.cluster.certificates import Authority
from e2e.engine_simulator.options import read_options
from e2e.engine_simulator.server import serving
from tests.cli.command import Cascade, runner
from tests.real_prometheus import free_port, prometheus

REQUESTS = 120
PROMPT_TOKENS = 40
OUTPUT_TOKENS = 7
COUNTED = "vllm:request_prompt_tokens_count"
TOKEN = "do-not-show-this"


@pytest.fixture
def cascade(capsys: pytest.CaptureFixture[str]) -> Cascade:
    return runner(capsys)


async def ask(client: httpx.AsyncClient, port: int) -> None:
    answer = await client.post(
        f"http://127.0.0.1:{port}/v1/completions",
        json={
            "model": "demo",
            "prompt": list(range(PROMPT_TOKENS)),
            "max_tokens": OUTPUT_TOKENS,
            "ignore_eos": True,
        },
    )
    assert answer.status_code == 200, answer.text


async def test_a_plain_pool_that_a_real_prometheus_scrapes_can_be_planned_for(
    cascade: Cascade, tmp_path: Path
) -> None:
    fast = {"baseMs": 1.0, "perSequenceMs": 0.0, "perKvTokenMs": 0.0, "prefillMsPerToken": 0.001}
    options = read_options(
        ["--model", "demo", "--port", "0", "--coefficients", json.dumps(fast)], {}
    )
    async with (
        serving(options) as (_, port),
        prometheus(tmp_path, [{"targets": [f"127.0.0.1:{port}"]}]) as server,
        httpx.AsyncClient(timeout=30) as client,
    ):
        await server.until(COUNTED, 0, client)
        await asyncio.gather(*(ask(client, port) for _ in range(REQUESTS)))
        await server.until(COUNTED, REQUESTS, client)
        said = await asyncio.to_thread(
            cascade, "plan", "--prometheus", server.url, "--window", "10m", "--gpus", 2, "--json",
            "--selector", 'job="engines"',
        )  # fmt: skip
    assert said.status == 0, said.err
    found = json.loads(said.out)
    assert found["source"]["origin"] == "vLLM, demo"
    # Prometheus extrapolates an increase beyond its samples by up to half their mean distance on
    # either side: with two samples, as on a busy machine, to the double.
    assert 0.99 * REQUESTS <= found["source"]["requests"] <= 2.01 * REQUESTS
    assert found["source"]["seconds"] < 60
    assert found["traffic"]["promptTokens"]["mean"] == pytest.approx(PROMPT_TOKENS, rel=0.01)
    assert found["traffic"]["outputTokens"]["mean"] == pytest.approx(OUTPUT_TOKENS, rel=0.01)
    assert sum(stage["instances"] for stage in found["plan"]["stages"]) == 2


BUCKETS = [("100", 50), ("1000", 250), ("+Inf", 300)]
"""(le, count) as Prometheus answers, of prompts and of all else."""


class Handler(BaseHTTPRequestHandler):
    """The instant query of Prometheus' HTTP API over one made-up set of series."""

    owners: ClassVar[dict[str, list[dict[str, str]]]] = {}
    status: ClassVar[int] = 200
    body: ClassVar[bytes | None] = None
    age: ClassVar[str | None] = "5"
    asked: ClassVar[list[tuple[str, dict[str, str]]]] = []

    def do_GET(self) -> None:
        query = parse_qs(urlparse(self.path).query).get("query", [""])[0]
        self.asked.append((query, dict(self.headers)))
        result = {"status": "success", "data": {"result": self.rows(query)}}
        body = json.dumps(result).encode() if self.body is None else self.body
        self.send_response(self.status, "the-servers-own-words")
        self.send_header("Content-Length", str(len(body)))
        if 300 <= self.status < 400:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(body)

    def rows(self, query: str) -> list[Any]:
        if query == "time()":
            return [1.0, "1.0"]
        if query.startswith("count by"):
            known = next((rows for name, rows in self.owners.items() if name in query), [])
            return [{"metric": owner, "value": [1.0, "1"]} for owner in known]
        if query.startswith("sum by (le)"):
            return [{"metric": {"le": le}, "value": [1.0, str(count)]} for le, count in BUCKETS]
        if query.startswith("time() - max"):
            return [] if self.age is None else [{"metric": {}, "value": [1.0, self.age]}]
        if query.startswith("time() - min"):
            return [{"metric": {}, "value": [1.0, "600"]}]
        return []

    def log_message(self, format: str, *args: Any) -> None:
        pass


VLLM = {"vllm:request_prompt_tokens": [{"model_name": "tiny"}]}
OURS = {"cascade_request_prompt_tokens": [{"namespace": "team", "service": "chat"}]}


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.owners, Handler.status, Handler.body, Handler.age, Handler.asked = (
        VLLM,
        200,
        None,
        "5",
        [],
    )
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


Plan = Callable[..., Any]


@pytest.fixture
def plan(cascade: Cascade, url: str) -> Plan:
    """`cascade plan` against the server."""
    return lambda *words: cascade("plan", "--prometheus", url, "--gpus", 4, *words)


def test_questions_are_scoped_by_model_and_selector(plan: Plan) -> None:
    said = plan("--selector", 'namespace="chat"', "--window", "6h")
    assert said.status == 0, said.err
    queries = [query for query, _ in Handler.asked if query != "time()"]
    scope = '{model_name="tiny",namespace="chat"}[21600s]'
    assert f"sum by (le) (increase(vllm:request_prompt_tokens_bucket{scope}))" in queries
    assert f"sum by (le) (increase(vllm:request_generation_tokens_bucket{scope}))" in queries
    assert all('namespace="chat"' in query for query in queries)


def test_metrics_that_began_within_the_window_are_not_spread_over_all_of_it(plan: Plan) -> None:
    found = json.loads(plan("--json").out)
    assert found["source"]["seconds"] == 600
    assert found["traffic"]["requestsPerSecond"] == pytest.approx(0.5)


def test_our_own_metrics_are_preferred(plan: Plan) -> None:
    Handler.owners = VLLM | OURS
    found = json.loads(plan("--json").out)
    assert found["source"]["origin"] == "Cascade routers, team/chat"
    assert any("cascade_decode_tokens_total" in query for query, _ in Handler.asked)
    found = json.loads(plan("--json", "--model", "tiny").out)
    assert found["source"]["origin"] == "vLLM, tiny"


def test_of_several_models_one_must_be_named(plan: Plan) -> None:
    Handler.owners = {"vllm:": [{"model_name": "large"}, {"model_name": "small"}]}
    said = plan()
    assert said.status == 2
    assert "name one with --model: large, small" in said.err
    assert plan("--model", "large").status == 0


def test_names_with_quotes_cannot_change_a_question(plan: Plan) -> None:
    Handler.owners = {"vllm:": [{"model_name": 'a"} or up{b="'}]}
    assert plan().status == 0
    assert any('model_name="a\\"} or up{b=\\""' in query for query, _ in Handler.asked)


@pytest.mark.parametrize(
    ("owners", "age", "words"),
    [
        pytest.param({}, "5", "neither cascade_request_prompt_tokens nor vllm:", id="no metrics"),
        pytest.param(VLLM, "500", "the newest sample is 500 s old", id="old metrics"),
        pytest.param(VLLM, None, "but scrapes it no more", id="metrics that ended"),
    ],
)
def test_no_traffic_is_status_3(plan: Plan, owners: Any, age: str | None, words: str) -> None:
    Handler.owners, Handler.age = owners, age
    said = plan()
    assert (said.status, said.out) == (3, "")
    assert words in said.err


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        pytest.param(401, b"", "HTTP 401 Unauthorized: give credentials", id="no credentials"),
        pytest.param(403, b"", "HTTP 403 Forbidden: these credentials", id="wrong credentials"),
        pytest.param(404, b"", "HTTP 404 Not Found: check that the address", id="another server"),
        pytest.param(400, b"", "HTTP 400 Bad Request: check --selector", id="a wrong selector"),
        pytest.param(503, b"", "HTTP 503 Service Unavailable: check", id="a sick server"),
        pytest.param(302, b"", "HTTP 302 Found: redirects are not followed", id="a redirect"),
        pytest.param(299, b"", "HTTP 299", id="an odd status"),
        pytest.param(200, b"<html>", "not that of a Prometheus", id="a web page"),
        pytest.param(200, b"{}", "not that of a Prometheus", id="another API"),
        pytest.param(200, b"[" * 100_000, "not that of a Prometheus", id="a deep answer"),
        pytest.param(200, b'{"data": {"result": [5]}}', "not that of a Prom", id="odd rows"),
        pytest.param(200, b" " * (MAX_ANSWER_BYTES + 1), "larger than 16 MiB", id="no end"),
    ],
)
def test_what_prometheus_does_not_answer_is_status_4(
    plan: Plan, url: str, status: int, body: bytes, words: str
) -> None:
    Handler.status, Handler.body = status, body
    said = plan()
    assert (said.status, said.out) == (4, "")
    assert f"Prometheus at {url}: " in said.err
    assert words in said.err
    assert "own-words" not in said.err
    assert len(said.err.splitlines()) == 1


def test_nobody_there_is_said_in_the_systems_words(cascade: Cascade) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = cascade("plan", "--prometheus", url, "--gpus", 4)
    assert said.status == 4
    assert said.err == f"cascade: Prometheus at {url}: Connection refused: check the address\n"


@pytest.mark.parametrize(
    "address", ["nonsense", "host:9090", "", "ftp://host", "http://", "http://[::1"]
)
def test_what_is_no_address_is_said(cascade: Cascade, address: str) -> None:
    said = cascade("plan", "--prometheus", address, "--gpus", 4)
    assert said.status == 2
    assert said.err.endswith("this is no address; write http://HOST:PORT\n")
    assert len(said.err.splitlines()) == 1


def test_a_server_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connection = Connection(
            f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.05
        )
        with pytest.raises(Exception, match=r"no answer within 0.05 s: .* shorter --window"):
            read_prometheus(connection, 600, "", None)


def test_credentials_are_sent_and_never_shown(plan: Plan, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    words = ("--bearer-token-file", token, "--header", f"X-Scope-OrgID: {TOKEN}-too")
    assert plan(*words).status == 0
    sent = Handler.asked[-1][1]
    assert sent["Authorization"] == f"Bearer {TOKEN}"
    assert sent["X-Scope-OrgID"] == f"{TOKEN}-too"
    Handler.status = 401
    said = plan(*words)
    assert TOKEN not in said.out + said.err


def test_a_token_wins_over_the_users_netrc_file(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert plan("--bearer-token-file", tmp_path / "token").status == 0
    assert Handler.asked[-1][1]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("content", [None, "", "two\nlines", "ünsafe"])
def test_a_file_without_a_token_is_named(plan: Plan, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    said = plan("--bearer-token-file", path)
    assert said.status == 2
    assert f"--bearer-token-file {path} holds no token" in said.err


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")
def test_a_certificate_is_trusted_by_its_authority_alone(
    cascade: Cascade, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    Authority(tmp_path).server("prometheus", ["localhost"], ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "prometheus.crt", tmp_path / "prometheus.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    words = ("plan", "--prometheus", f"https://127.0.0.1:{server.server_port}", "--gpus", 4)
    said = cascade(*words)
    assert said.status == 4
    assert "its certificate is not trusted: name its authority with --ca-file" in said.err
    assert cascade(*words, "--ca-file", tmp_path / "ca.crt").status == 0


def test_a_ca_file_that_is_none_is_named(plan: Plan, tmp_path: Path) -> None:
    said = plan("--ca-file", tmp_path / "absent")
    assert said.status == 2
    assert f"--ca-file {tmp_path / 'absent'} cannot be read" in said.err
    (tmp_path / "prose").write_text("no certificate")
    said = plan("--ca-file", tmp_path / "prose")
    assert said.status == 2
    assert "holds no certificate in PEM" in said.err
