"""Requests to an API server: who may write, and for how long."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio.client import ApiClient, Configuration

from cascade_operator import cluster as cluster_module
from cascade_operator import kinds
from cascade_operator.cluster import Cluster, ClusterError, NotLeader

POD = {"metadata": {"name": "p"}}


class ApiServer:
    """Answers nothing before `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.asked: list[str] = []
        self.full = asyncio.Event()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.method)
        if len(self.asked) == cluster_module._CONCURRENCY:
            self.full.set()
        await self.open.wait()
        return web.json_response({"items": [], "metadata": {}})


@asynccontextmanager
async def server_of(
    answer: Callable[[web.Request], Awaitable[web.Response]],
) -> AsyncIterator[ApiClient]:
    """A client of a server that answers everything in this way."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        client = ApiClient(Configuration(host=str(server.make_url("")).rstrip("/")))
        yield client
        await client.close()  # type: ignore[no-untyped-call]


@pytest.fixture
async def served() -> AsyncIterator[tuple[ApiServer, ApiClient]]:
    api = ApiServer()
    async with server_of(api.answer) as client:
        yield api, client
        api.open.set()


async def test_a_leadership_that_ends_in_the_queue_ends_the_write(
    served: tuple[ApiServer, ApiClient],
) -> None:
    api, client = served
    leading = True
    cluster = Cluster(client, lambda: leading)
    reads = [
        asyncio.create_task(cluster.get(kinds.POD, "team", "p"))
        for _ in range(cluster_module._CONCURRENCY)
    ]
    write = asyncio.create_task(cluster.create(kinds.POD, "team", POD))
    async with asyncio.timeout(10):
        await api.full.wait()
        leading = False
        api.open.set()
        await asyncio.gather(*reads)
        with pytest.raises(NotLeader):
            await write
    assert "POST" not in api.asked
    assert cluster.writes == 0


async def test_a_write_that_gets_no_answer_is_given_up(
    served: tuple[ApiServer, ApiClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client = served
    monkeypatch.setattr(cluster_module, "WRITE_SECONDS", 0.05)
    cluster = Cluster(client)
    with pytest.raises(ClusterError, match="does not answer"):
        await cluster.create(kinds.POD, "team", POD)
    assert cluster.writes == 1


async def test_pods_are_read_page_by_page() -> None:
    asked: list[dict[str, str]] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        token = request.query.get("continue", "")
        item = {"metadata": {"name": f"p{token}", "uid": "u", "resourceVersion": "1"}}
        metadata = {} if token else {"continue": "2"}
        return web.json_response({"metadata": metadata, "items": [item]})

    async with server_of(answer) as client:
        cluster = Cluster(client)
        pods = await cluster.pods("team", {"a": "b", "c": "d"})
        assert [pod.metadata.name for pod in pods] == ["p", "p2"]
        assert [query.get("continue") for query in asked] == [None, "2"]
        assert {query["labelSelector"] for query in asked} == {"a=b,c=d"}
        assert cluster.requests == {"list": 2}


@pytest.mark.parametrize(
    ("status", "text", "words"),
    [
        (403, '{"kind": "Status", "reason": "Forbidden", "message": "no"}', "403 Forbidden: no"),
        (200, "{}", "list of pods"),
        (200, '{"items": [{"metadata": {}}]}', "list of pods"),
        (200, "Bad gateway", "list of pods"),
    ],
)
async def test_what_is_no_list_of_pods_is_an_error(status: int, text: str, words: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text)

    async with server_of(answer) as client:
        with pytest.raises(ClusterError, match=words):
            await Cluster(client).pods("team", {})


@pytest.mark.parametrize(
    ("namespace", "path"),
    [
        pytest.param("team", "/api/v1/namespaces/team/pods", id="in a namespace"),
        pytest.param("", "/api/v1/pods", id="in the whole cluster"),
    ],
)
async def test_a_look_asks_for_one_object(namespace: str, path: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.json_response({"items": [], "metadata": {}})

    async with server_of(answer) as client:
        await Cluster(client).look(kinds.POD, namespace)
    assert asked == [f"{path}?limit=1"]
