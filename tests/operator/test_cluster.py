"""Requests to an API server: who may write, and for how long."""

import asyncio
from collections.abc import AsyncIterator

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


@pytest.fixture
async def served() -> AsyncIterator[tuple[ApiServer, ApiClient]]:
    api = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", api.answer)
    async with TestServer(app) as server:
        client = ApiClient(Configuration(host=str(server.make_url("")).rstrip("/")))
        yield api, client
        api.open.set()
        await client.close()  # type: ignore[no-untyped-call]


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
