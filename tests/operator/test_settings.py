"""Settings from the environment, and what the health port answers."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cascade_operator.environment import InvalidSettings
from cascade_operator.health import Vitals, serve_health
from cascade_operator.prometheus_settings import risks
from cascade_operator.settings import read_settings

ROUTER = {"CASCADE_ROUTER_IMAGE": "router:1"}


def prometheus(**variables: str) -> dict[str, str]:
    """An environment that names a Prometheus, and more about it."""
    told = {"URL": "https://prometheus", **variables}
    return ROUTER | {f"CASCADE_PROMETHEUS_{name}": text for name, text in told.items()}


def test_defaults() -> None:
    settings = read_settings(ROUTER)
    assert (settings.health_host, settings.health_port) == ("0.0.0.0", 8080)
    assert settings.resync_seconds == 30
    assert settings.leader_election
    assert settings.watch_namespaces == ()
    assert settings.prometheus is None


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
        (prometheus(URL="prometheus:9090"), "PROMETHEUS_URL must have the form"),
        (prometheus(URL="https://me:hunter2@prometheus"), "user and password as files"),
        (prometheus(URL="https://[::1"), "PROMETHEUS_URL must have the form"),
        (prometheus(URL="https://prometheus:web"), "PROMETHEUS_URL must have the form"),
        (prometheus(HEADERS='{"X": " hunter2"}'), "without spaces around it"),
        (prometheus(HEADERS="X: hunter2"), "PROMETHEUS_HEADERS must be a JSON object of strings"),
        (prometheus(HEADERS='{"X": 1}'), "PROMETHEUS_HEADERS must be a JSON object of strings"),
        (prometheus(HEADERS='{"X Y": "hunter2"}'), "'X Y' must be the name of a header"),
        (prometheus(HEADERS='{"X": "hunter2\\n"}'), "its value one line of printable ASCII"),
        (prometheus(LABELS='{"a-b": "c"}'), "'a-b' must be the name of a label"),
        (prometheus(LABELS='{"service": "c"}'), "not one of the routers' own"),
        (prometheus(CERTIFICATE_FILE="/c"), "CERTIFICATE_FILE and .*KEY_FILE go together"),
        (prometheus(PASSWORD_FILE="/p"), "USERNAME_FILE and .*PASSWORD_FILE go together"),
        (
            prometheus(TOKEN_FILE="/t", USERNAME_FILE="/u", PASSWORD_FILE="/p"),
            "TOKEN_FILE and .*USERNAME_FILE exclude each other",
        ),
        (
            prometheus(CA_FILE="/c", INSECURE_SKIP_VERIFY="true"),
            "trusts anybody, .*CA_FILE its authorities alone: set one",
        ),
        (prometheus(TIMEOUT_SECONDS="soon"), "TIMEOUT_SECONDS must be a number of seconds"),
    ],
)
def test_a_wrong_variable_is_named(environment: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidSettings, match=words) as caught:
        read_settings(environment)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"INSECURE_SKIP_VERIFY": "true"}, ["anybody may answer"]),
        ({"URL": "http://prometheus", "TOKEN_FILE": "/token"}, ["without encryption"]),
        ({"URL": "http://prometheus"}, []),
        ({"TOKEN_FILE": "/token", "CA_FILE": "/ca.crt"}, []),
    ],
)
def test_what_is_not_advised_is_said(variables: dict[str, str], words: list[str]) -> None:
    found = risks(read_settings(prometheus(**variables)).prometheus)
    assert [word in risk for word, risk in zip(words, found, strict=True)] == [True] * len(words)


def test_secrets_are_not_part_of_the_settings_as_they_are_shown() -> None:
    settings = read_settings(prometheus(HEADERS='{"X-Key": "hunter2"}', TOKEN_FILE="/token"))
    assert settings.prometheus is not None
    assert settings.prometheus.headers == {"X-Key": "hunter2"}
    assert "hunter2" not in repr(settings)


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
    vitals.count_requests(lambda: {"get": 3, "list": 2, "patch": 1})
    for seconds in (0.02, 0.021, 99.0):
        vitals.count_pass(seconds)
    lines = (await ask(port, "/metrics"))[1].splitlines()
    for line in (
        "cascade_operator_pods_moved_total 7",
        'cascade_operator_api_requests_total{verb="list"} 2',
        "cascade_operator_api_writes_total 1",
        "cascade_operator_passes_total 3",
        'cascade_operator_pass_seconds_bucket{le="0.01"} 0',
        'cascade_operator_pass_seconds_bucket{le="0.02"} 1',
        'cascade_operator_pass_seconds_bucket{le="30.0"} 2',
        'cascade_operator_pass_seconds_bucket{le="+Inf"} 3',
        "cascade_operator_pass_seconds_count 3",
    ):
        assert line in lines
    assert len(list(text_string_to_metric_families("\n".join(lines) + "\n"))) == 9
    assert (await ask(port, "/other"))[0] == "404"
    assert (await ask(port, "/healthz", "POST"))[0] == "405"
    server.close()
    await server.wait_closed()
