"""Which headers of a client reach an engine, and the id by which logs can be joined."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.pins import REFUSED_HEADERS
from cascade_policy.request_ids import MOST_CHARACTERS, is_plain, plain
from cascade_router.membership import Member, View
from cascade_router.passed import PASSED, passed_headers, request_id
from tests.router.core.cluster import light_client, lone_sidecar, stage_map, stream
from tests.router.core.loop import on_uvloop
from tests.router.core.scripted import STREAM_HEAD
from tests.router.core.test_sse import completion
from tests.router.engine_api.recording import LISTED, Seen, recording_engine

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CLIENTS = {
    "authorization": "Bearer key",
    "traceparent": TRACE,
    "tracestate": "a=b",
    "x-request-id": "call-7.a_b",
    "x-session-id": "s",
    "endpoint-load-metrics-format": "text",
    "cookie": "secret",
    "x-forwarded-for": "10.0.0.1",
    "x-cascade-dispatch": "1;1;1",
    "accept-encoding": "gzip",
    "content-type": "text/plain",
}
OURS = {"host", "accept-encoding", "content-type", "content-length"}
BODY = {"prompt": [5], "max_tokens": 5}
STAYS = {"x-session-id", "endpoint-load-metrics-format", "content-type"}
"""What vLLM reads and this router neither passes on nor refuses; the last one it sets itself."""


def test_every_header_that_vllm_reads_is_decided_on() -> None:
    assert set(LISTED["headers"]) == PASSED | REFUSED_HEADERS | STAYS


def test_the_document_lists_the_headers_of_the_code() -> None:
    document = Path(__file__).parents[3] / "router" / "API.md"
    rows = re.findall(r"^\| (`[a-z-]+`.*) \| (passed on|refused|stays) \|",
                      document.read_text(), re.MULTILINE)  # fmt: skip
    found: dict[str, set[str]] = {}
    for names, what in rows:
        found.setdefault(what, set()).update(re.findall(r"`([a-z-]+)`", names))
    assert found == {"passed on": set(PASSED), "refused": set(REFUSED_HEADERS), "stays": STAYS}


@pytest.mark.parametrize("own", [True, False], ids=["one hop", "two hops"])
@on_uvloop
async def test_only_listed_headers_reach_the_engine(tmp_path: Path, own: bool) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (near, url),
        lone_sidecar(tmp_path, engine.port) as (_, far_url),
    ):
        address = (url if own else far_url).removeprefix("http://")
        near.use(View(stage_map(), (Member("pod-0", address, 0),), 0))
        async with light_client() as client:
            for path in ("/v1/completions", "/v1/embeddings"):
                answer = await client.post(url + path, json={"input": [5], **BODY}, headers=CLIENTS)
                assert answer.headers["x-request-id"] == "call-7.a_b"
        assert len(engine.seen) == 2
        for seen in engine.seen:
            reached = {name: seen.headers[name] for name in seen.headers.keys() - OURS}
            assert reached == {name: CLIENTS[name] for name in PASSED}
            assert seen.headers["content-type"] == "application/json"
            assert seen.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("own", [True, False], ids=["own engine", "another's"])
@on_uvloop
async def test_questions_carry_the_same_headers(tmp_path: Path, own: bool) -> None:
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (near, url),
        lone_sidecar(tmp_path, engine.port) as (_, far_url),
    ):
        address = far_url.removeprefix("http://")
        near.use(View(stage_map(), (Member("pod-1", address, 0),), 0))
        near.tools.own.healthy = own
        async with light_client() as client:
            answer = await client.get(url + "/v1/models", headers=CLIENTS)
        assert answer.headers["x-request-id"] == "call-7.a_b"
        assert answer.headers.get("x-cascade-instance") == (None if own else "pod-1")
        (seen,) = engine.seen
        reached = {name: seen.headers[name] for name in seen.headers.keys() - OURS}
        assert reached == {name: CLIENTS[name] for name in PASSED}


@on_uvloop
async def test_every_leg_carries_them(tmp_path: Path) -> None:
    """The first leg breaks after a token; the second one goes on."""

    def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        last = len(engine.seen) > 1
        event = completion("b", [2], "length") if last else completion("a", [1], prompt=[5])
        data = event + (b"data: [DONE]\n\n" if last else b"")
        writer.write(STREAM_HEAD + b"%x\r\n%b\r\n" % (len(data), data))
        if last:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()

    async with (
        recording_engine(answer) as engine,
        lone_sidecar(tmp_path, engine.port) as (_, url),
    ):
        got = await stream(url, "/v1/completions", BODY, headers=CLIENTS)
        assert (got.text, got.done) == ("ab", True)
        first, second = engine.seen
        for name in PASSED:
            assert first.headers[name] == second.headers[name] == CLIENTS[name]


@pytest.mark.parametrize("name", sorted(REFUSED_HEADERS))
@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/responses", "/v1/messages", "/v1/embeddings", "/tokenize"]
)
@on_uvloop
async def test_headers_that_steer_an_engine_are_refused(
    tmp_path: Path, path: str, name: str
) -> None:
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        async with light_client() as client:
            answer = await client.post(url + path, json=BODY, headers={name.upper(): "0"})
        assert answer.status_code == 400
        assert name in answer.json()["error"]["message"]
        assert engine.lines == []


@pytest.mark.parametrize(
    ("written", "reaches"),
    [
        pytest.param("a1.B-2_c", "a1.B-2_c", id="a plain id"),
        pytest.param('a b/c"d', "a-b-c-d", id="other characters"),
        pytest.param("é", "-", id="other alphabets"),
        pytest.param("x" * 300, "x" * MOST_CHARACTERS, id="a long one"),
        pytest.param(
            "___prefill_addr_host:10.0.0.9,handshake:1,notify:2___decode_addr_x_" + "0" * 32,
            "-prefill_addr_host-10.0.0.9-handshake-1-notify-2-decode_addr_x_" + "0" * 32,
            id="the address of an engine",
        ),
    ],
)
def test_an_id_is_made_plain(written: str, reaches: str) -> None:
    assert plain(written) == reaches
    assert is_plain(reaches)
    assert is_plain(written) == (written == reaches)


@given(st.text(min_size=1, max_size=200))
def test_whatever_is_written_becomes_plain_and_stays_so(written: str) -> None:
    once = plain(written)
    assert is_plain(once)
    assert plain(once) == once
    assert plain(written) == written or not is_plain(written)


def test_an_id_is_the_headers_else_the_bodys_else_a_new_one() -> None:
    assert request_id({"x-request-id": "a"}, "b") == "a"
    assert request_id({"x-request-id": ""}, "b") == "b"
    new = request_id({}), request_id({}, 7)
    assert all(re.fullmatch("[0-9a-f]{32}", identity) for identity in new)
    assert new[0] != new[1]


def test_values_that_no_header_may_have_stay_here() -> None:
    headers = {"authorization": "Bearer é", "traceparent": "a\x01", "tracestate": "x" * 9000}
    assert passed_headers(headers, "i") == (("x-request-id", "i"),)


@on_uvloop
async def test_every_answer_tells_its_id(tmp_path: Path) -> None:
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        async with light_client() as client:
            for path in ("/v1/nothing", "/v1/completions", "/tokenize", "/v1/messages"):
                answer = await client.post(url + path, content=b"{", headers={"x-request-id": "a"})
                assert (path, answer.headers["x-request-id"]) == (path, "a")
            answers = [await client.post(url + "/v1/chat/completions", json=BODY) for _ in "ab"]
            named = await client.post(url + "/v1/completions", json={**BODY, "request_id": "mine"})
        ids = [answer.headers["x-request-id"] for answer in (*answers, named)]
        assert ids == [seen.headers["x-request-id"] for seen in engine.seen[-3:]]
        assert (len(set(ids)), ids[2]) == (3, "mine")
