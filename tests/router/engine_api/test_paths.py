"""Nothing of an engine can be reached but the paths of the API, however a path is spelt."""

import asyncio
import re
from pathlib import Path

import pytest

from cascade_router.api import API, PATHS, PEER_METHODS, ApiPath, Serving, is_stored_response
from cascade_router.endpoints import Member
from cascade_router.outbound import Outbound
from e2e.engine_simulator import administration, application
from tests.router.core.cluster import cluster, light_client, lone_sidecar, stage_map
from tests.router.core.loop import on_uvloop
from tests.router.engine_api.recording import LISTED, recording_engine

DOCUMENT = Path(__file__).parents[3] / "router" / "API.md"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE")
LISTED_PATHS = [(method, re.sub(r"\{[^}]*\}", "resp_1", path)) for method, path in LISTED["paths"]]
HIDDEN = sorted({path for _, path in LISTED_PATHS} - PATHS.keys())


def spellings(path: str) -> list[str]:
    """Ways in which a client may try to write a path that is not served."""
    encoded = "".join(f"%{ord(character):02x}" for character in path[1:])
    return [
        path,
        f"{path}?a=b",
        f"{path}?",
        f"{path}#a",
        f"{path};a",
        f"{path}/",
        f"{path}//",
        f"{path}%00",
        f"{path}%20",
        f"/{path}",
        f"//{path}",
        f"/.{path}",
        f"/v1/..{path}",
        f"/v1/models/..{path}",
        f"/v1/models/%2e%2e{path}",
        f"/v1/models/..%2f{path[1:]}",
        f"/v1/completions/../..{path}",
        f"/v1/completions;{path}",
        f"/v1/completions?{path}",
        f"/{encoded}",
        f"/%2f{path[1:]}",
        path.replace("/", "\\"),
        path.upper(),
        f"http://engine:8001{path}",
        f"http://127.0.0.1{path}?a",
        f"HTTP://user@engine{path}",
    ]


async def status_of(url: str, method: str, target: str, *headers: str) -> int:
    """The status of the answer to a request that is written as it is; 0 without an answer."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"{method} {target} HTTP/1.1", "host: x", "connection: close", *headers]
    try:
        writer.write("\r\n".join([*lines, "content-length: 2", "", "{}"]).encode("latin-1"))
        async with asyncio.timeout(20):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ")[1]) if answer else 0


@on_uvloop
async def test_of_all_that_vllm_serves_only_the_api_reaches_the_engine(tmp_path: Path) -> None:
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        for method, path in LISTED_PATHS:
            engine.seen.clear()
            served = PATHS.get(path)
            status = await status_of(url, "GET" if method == "WEBSOCKET" else method, path)
            if served is None or served.method != method:
                assert (path, status) == (path, 404)
                assert engine.seen == []
            elif served.serving is Serving.ROUTER:
                assert (path, status) == (path, 200)
                assert engine.seen == []
            else:
                assert (path, status) == (path, 200)
                assert engine.lines == [f"{method} {path}"]


def test_the_list_is_that_of_the_version_which_the_simulator_imitates() -> None:
    assert LISTED["version"] == application.VERSION
    assert len(LISTED["paths"]) > 80
    assert set(administration.PATHS) <= {(method, path) for method, path in LISTED["paths"]}


def test_every_path_of_the_api_is_one_of_vllms_or_the_routers_own() -> None:
    listed = {(method, path) for method, path in LISTED["paths"]}
    for served in API:
        if served.serving is not Serving.ROUTER:
            assert (served.method, served.path) in listed


@on_uvloop
async def test_no_spelling_of_a_hidden_path_reaches_the_engine(tmp_path: Path) -> None:
    targets = [target for path in HIDDEN for target in spellings(path)]
    # A client's query is never part of a path: what is asked here is a completion, by GET.
    refused = (400, 404, 405)
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        for start in range(0, len(targets), 50):
            some = targets[start : start + 50]
            answers = [status_of(url, "GET", target) for target in some]
            found = dict(zip(some, await asyncio.gather(*answers), strict=True))
            wrong = {target: status for target, status in found.items() if status not in refused}
            assert wrong == {}
        assert engine.lines == []


@on_uvloop
async def test_a_served_path_has_one_spelling(tmp_path: Path) -> None:
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        for served in API:
            path = served.path
            encoded = f"/%{ord(path[1]):02x}{path[2:]}"
            others = [f"{path}/", f"/{path}", f"/.{path}", f"/a/..{path}", f"{path};a", encoded]
            for target in [*others, path.upper(), f"{path}%20", path.replace("/", "\\")]:
                status = await status_of(url, served.method, target)
                assert (target, status in (400, 404)) == (target, True)
        assert engine.lines == []


@pytest.mark.parametrize("method", METHODS)
@on_uvloop
async def test_no_method_reaches_a_hidden_path(tmp_path: Path, method: str) -> None:
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        found = {path: await status_of(url, method, path) for path in HIDDEN}
        assert set(found.values()) <= {400, 404, 405}
        assert engine.lines == []


@on_uvloop
async def test_a_tunnel_is_refused_and_another_protocol_not_spoken(tmp_path: Path) -> None:
    upgrade = ("upgrade: websocket", "sec-websocket-key: x", "sec-websocket-version: 13")
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        assert await status_of(url, "CONNECT", "127.0.0.1:8001") == 400
        for path, status in (("/v1/realtime", 404), ("/v1/models", 200)):
            found = await status_of(url, "GET", path, "connection: upgrade", *upgrade)
            assert (path, found) == (path, status)
        (seen,) = engine.seen
        assert (seen.method, seen.target) == ("GET", "/v1/models")
        assert not {"upgrade", "sec-websocket-key"} & seen.headers.keys()


@on_uvloop
async def test_a_peer_reaches_no_more_than_a_client(tmp_path: Path) -> None:
    """Over a channel, that is: with the key of the service."""
    async with (
        recording_engine() as engine,
        lone_sidecar(tmp_path, engine.port) as (_, far),
        lone_sidecar(tmp_path, engine.port) as (near, _),
    ):
        target = Member("far", far.removeprefix("http://"), 0)

        async def ask(method: str, path: str) -> int:
            request = Outbound(path, b"{}", method=method)
            return (await near.tools.peers.control(target, request, 10)).status

        for path in [*HIDDEN, "/health", "/metrics", "/ready"]:
            for method in ("GET", "POST"):
                assert (path, await ask(method, path)) == (path, 404)
        for path, right in PEER_METHODS.items():
            assert await ask("POST" if right == "GET" else "GET", path) == 404
            assert await ask(right, f"{path}?a=b") == 404
            assert await ask(right, f"{path} HTTP/1.1\r\nx: y\r\n\r\nGET /sleep") == 404
            assert await ask(right, path) == 200
        assert engine.lines == [f"{method} {path}" for path, method in PEER_METHODS.items()]


@on_uvloop
async def test_the_administration_of_two_engines_is_never_called(tmp_path: Path) -> None:
    """The same with engines that would obey, decoding what is encoded, behind two sidecars."""
    async with (
        cluster(tmp_path, [0, 1], stage_map(1000), "--allow-faults") as service,
        light_client() as client,
    ):
        for method, path in administration.PATHS:
            for target in (path, f"{path}?level=1", f"/%{ord(path[1]):02x}{path[2:]}", f"/{path}"):
                status = await status_of(service[0].url, method, target)
                assert (target, status) == (target, 404)
        for instance in service.instances:
            own = f"http://{instance.sidecar.tools.own.address}"
            assert (await client.post(f"{own}/pause")).status_code == 200
            called = await client.get(f"{own}/simulator/administration")
            assert called.json() == {"calls": ["POST /pause"]}, "the test's own call and no other"


@pytest.mark.parametrize("served", API, ids=[one.path for one in API])
@on_uvloop
async def test_another_method_is_answered_with_the_right_one(
    tmp_path: Path, served: ApiPath
) -> None:
    path, right = served.path, served.method
    async with recording_engine() as engine, lone_sidecar(tmp_path, engine.port) as (_, url):
        async with light_client() as client:
            for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
                if method == right:
                    continue
                answer = await client.request(method, url + path)
                allowed = "GET, HEAD" if right == "GET" else right
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
                assert f"is for {right}" in answer.text
        assert engine.lines == []


@pytest.mark.parametrize(
    ("method", "path", "stored"),
    [
        ("GET", "/v1/responses/resp_1", True),
        ("DELETE", "/v1/responses/resp_1", True),
        ("GET", "/v1/responses/resp_1/input_items", True),
        ("POST", "/v1/responses/resp_1/cancel", True),
        ("POST", "/v1/responses/render", False),
        ("POST", "/v1/responses/resp_1/other", False),
        ("GET", "/v1/responses/", False),
    ],
)
def test_paths_of_stored_responses_are_known(method: str, path: str, stored: bool) -> None:
    assert is_stored_response(method, path) is stored


def test_the_document_lists_the_paths_of_the_code() -> None:
    rows = re.findall(r"^\| `(GET|POST) (/\S*)` \| (\S+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(served.method, served.path, served.serving.value) for served in API]
