"""Settings from the environment, and what the health port answers."""

import asyncio

import pytest

from cascade_operator.health import Vitals, serve_health
from cascade_operator.settings import InvalidSettings, read_settings

ROUTER = {"CASCADE_ROUTER_IMAGE": "router:1"}


def test_defaults() -> None:
    settings = read_settings(ROUTER)
    assert (settings.health_host, settings.health_port) == ("0.0.0.0", 8080)
    assert settings.resync_seconds == 30
    assert settings.leader_election
    assert settings.watch_namespaces == ()
    assert settings.prometheus_url is None


def test_namespaces_are_a_list() -> None:
    settings = read_settings({**ROUTER, "CASCADE_WATCH_NAMESPACES": "a, b,"})
    assert settings.watch_namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "CASCADE_ROUTER_IMAGE is not set"),
        ({**ROUTER, "CASCADE_RESYNC_SECONDS": "soon"}, "CASCADE_RESYNC_SECONDS must be a number"),
        ({**ROUTER, "CASCADE_RESYNC_SECONDS": "0"}, "between 1 and 86400"),
        ({**ROUTER, "CASCADE_HEALTH_LISTEN": "8080"}, "must be HOST:PORT"),
        ({**ROUTER, "CASCADE_LEADER_ELECTION": "maybe"}, "must be true or false"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        read_settings(environment)


async def ask(port: int, path: str, method: str = "GET") -> tuple[str, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition("\r\n\r\n")
    return head.split()[1], body


async def test_health() -> None:
    vitals = Vitals()
    server = await serve_health("127.0.0.1", 0, vitals)
    port = server.sockets[0].getsockname()[1]
    assert (await ask(port, "/healthz"))[0] == "200"
    assert (await ask(port, "/readyz"))[0] == "200", "a standby is ready"
    vitals.leader = True
    assert (await ask(port, "/readyz"))[0] == "503", "a leader is not before it watches"
    vitals.watching, vitals.pods_moved = True, 7
    assert (await ask(port, "/readyz"))[0] == "200"
    assert "cascade_operator_pods_moved_total 7\n" in (await ask(port, "/metrics"))[1]
    assert (await ask(port, "/other"))[0] == "404"
    assert (await ask(port, "/healthz", "POST"))[0] == "405"
    server.close()
    await server.wait_closed()
