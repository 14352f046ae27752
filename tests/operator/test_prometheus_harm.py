"""A Prometheus that would hold up or fill whoever asks it: no thread, no memory, nobody else."""

import asyncio
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from cascade_operator.connection import Connection
from cascade_operator.faults import PrometheusError
from cascade_operator.line import Line
from cascade_operator.prometheus import PrometheusReader
from cascade_prometheus.answers import StatusError
from tests.operator.http_server import Answer, Request, serving
from tests.operator.test_prometheus_faults import HEALTHY, drip, flood, silence


@pytest.mark.parametrize(
    ("answer", "path"),
    [(drip, ""), (silence, ""), (flood, ""), (drip, "/%7Euser"), (drip, "/a/../b"), (drip, "/é")],
)
async def test_a_reading_that_was_given_up_holds_no_thread(answer: Answer, path: str) -> None:
    """Also where the path is sent in another spelling than it is written in."""
    async with serving(answer) as server:
        url = f"{server.url}{path}"
        reader = PrometheusReader(Connection(url, timeout_seconds=1, operator_wide=True))
        readings = [reader.read(url, "team", "demo", 600) for _ in range(10)]
        ends = await asyncio.gather(*readings, return_exceptions=True)
        assert {type(end) for end in ends} == {PrometheusError}
        server.answer = HEALTHY
        assert (await reader.read(url, "team", "demo", 600)).age_seconds == 5
        reader.close()


async def test_a_host_of_many_silent_addresses_holds_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as waiting:
        for _ in range(3):  # more than it queues; whoever comes after them hears nothing
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        silent = (socket.AF_INET, socket.SOCK_STREAM, 0, "", full.getsockname())
        connecting = threading.Event()

        def addresses(*_: object, **__: object) -> Iterator[object]:
            for _number in range(100):
                connecting.set()
                yield silent

        monkeypatch.setattr(socket, "getaddrinfo", addresses)
        for _ in range(200):  # to hang up before, while and after the first connection begins
            connecting.clear()
            line = Line(Connection("http://host", timeout_seconds=30))
            asking = asyncio.create_task(asyncio.to_thread(line.ask, "up"))
            assert await asyncio.to_thread(connecting.wait, 10)
            line.hang_up()
            with pytest.raises(OSError, match="hung up"):
                async with asyncio.timeout(10):
                    await asking


async def test_cookies_do_not_fill_the_memory() -> None:
    """Read, each of their attributes would take a hundred bytes."""
    cookies = b"Set-Cookie: a=b" + b";a" * 30_000 + b"\r\n"

    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 401 x\r\n" + cookies * 50 + b"Content-Length: 0\r\n\r\n")

    async with serving(answer) as server:
        line = Line(Connection(server.url))
        tracemalloc.start()
        with pytest.raises(StatusError):
            await asyncio.to_thread(line.ask, "up")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        line.hang_up()
    assert most < 16 * len(cookies * 50)


async def test_an_address_that_users_chose_keeps_no_other_namespace_waiting() -> None:
    async with serving(silence) as hanging, serving(HEALTHY) as own, serving(HEALTHY) as other:
        reader = PrometheusReader(Connection(own.url, operator_wide=True))
        users = [
            asyncio.create_task(reader.read(hanging.url, "team", str(number), 600))
            for number in range(30)
        ]
        while len(hanging.requests) < 2:  # noqa: ASYNC110 - the server rings no bell
            await asyncio.sleep(0.01)
        for url, namespace in ((own.url, "team"), (own.url, "others"), (other.url, "others")):
            assert (await reader.read(url, namespace, "demo", 600)).age_seconds == 5
        assert not any(task.done() for task in users)
        for task in users:
            task.cancel()
        await asyncio.gather(*users, return_exceptions=True)
        reader.close()
