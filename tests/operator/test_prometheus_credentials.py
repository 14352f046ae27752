"""What a request carries, to whom, and how it follows the files."""

import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.connection import Connection, connection_to
from cascade_operator.faults import PrometheusError, told
from cascade_operator.line import Line
from cascade_operator.prometheus import PrometheusReader
from cascade_operator.reasons import Reason
from e2e.cluster.certificates import Authority, Subject
from tests.operator.http_server import Server, saying, serving, tls_of
from tests.operator.test_prometheus_faults import HEALTHY, openssl

TOKEN = "never-show-this-token"


def written(folder: Path, **contents: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


def lock(key: Path, target: Path) -> None:
    """Encrypt a key with a password."""
    command = ["openssl", "ec", "-in", str(key), "-out", str(target), "-aes256"]
    subprocess.run([*command, "-passout", "pass:x"], check=True, capture_output=True)


async def ask(server: Server, connection: Connection, url: str | None = None) -> None:
    reader = PrometheusReader(connection)
    try:
        await reader.read(url or server.url, "team", "demo", 600)
    finally:
        reader.close()


def everything(server: Server, folder: Path) -> Connection:
    """All credentials that plain HTTP can carry."""
    written(folder, token=TOKEN)
    written(folder / "headers", **{"X-Secret": f"{TOKEN}-too", "..data": "the kubelet's"})
    return Connection(
        server.url,
        token_file=str(folder / "token"),
        headers={"X-Scope-OrgID": "team-a"},
        headers_folder=str(folder / "headers"),
        labels={"cluster": "eu"},
        operator_wide=True,
    )


async def test_token_and_headers_are_sent(tmp_path: Path) -> None:
    async with serving(HEALTHY) as server:
        await ask(server, everything(server, tmp_path))
    for request in server.requests:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["x-scope-orgid"] == "team-a"
        assert request.headers["x-secret"] == f"{TOKEN}-too"
        assert "..data" not in request.headers
        assert 'cluster="eu"' in request.query
    assert len(server.requests) == 7


async def test_user_and_password_are_sent(tmp_path: Path) -> None:
    written(tmp_path, user="someone\n", password="pass:word")
    async with serving(HEALTHY) as server:
        connection = Connection(
            server.url,
            username_file=str(tmp_path / "user"),
            password_file=str(tmp_path / "password"),
            operator_wide=True,
        )
        await ask(server, connection)
    basic = b64encode(b"someone:pass:word").decode()
    assert {request.headers["authorization"] for request in server.requests} == {f"Basic {basic}"}


async def test_another_address_gets_nothing_of_it(tmp_path: Path) -> None:
    async with serving(HEALTHY) as own, serving(HEALTHY) as others:
        connection = everything(own, tmp_path)
        await ask(others, connection)
        await ask(own, connection, f"{own.url}/another-path")
    for request in (*own.requests, *others.requests):
        assert not {"authorization", "x-scope-orgid", "x-secret"} & request.headers.keys()
        assert "cluster" not in request.query


async def test_the_operators_address_in_another_spelling_is_still_its_own(tmp_path: Path) -> None:
    async with serving(HEALTHY) as server:
        await ask(server, everything(server, tmp_path), server.url.replace("http", "HTTP") + "/")
    assert all("authorization" in request.headers for request in server.requests)


WIDE = Connection("https://prometheus.example/base", token_file="/token", operator_wide=True)


@pytest.mark.parametrize(
    "url",
    [
        "http://prometheus.example/base",
        "https://prometheus.example:444/base",
        "https://prometheus.example/",
        "https://prometheus.example/base/../other",
        "https://prometheus.example.evil/base",
        "https://prometheus.example@evil/base",
        "https://evil\\@prometheus.example/base",
        "https://prometheus.example/base?x#y",
        "https://prometheus.example:port/base",
        "https://[::1",
        "",
    ],
)
def test_credentials_do_not_go_to(url: str) -> None:
    found = connection_to(url, WIDE)
    assert found == Connection(url)
    assert not found.operator_wide


@pytest.mark.parametrize(
    "url",
    [
        "https://prometheus.example/base",
        "https://prometheus.example:443/base/",
        "HTTPS://Prometheus.Example/base",
    ],
)
def test_credentials_go_to_the_operators_own_spelling_of(url: str) -> None:
    assert connection_to(url, WIDE) is WIDE


@given(st.text(max_size=60))
def test_no_address_but_the_operators_own_gets_credentials(text: str) -> None:
    for url in (text, f"https://prometheus.example{text}", f"https://{text}/base"):
        found = connection_to(url, WIDE)
        assert found is WIDE or (found.url == url and found.token_file is None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int, tmp_path: Path) -> None:
    async with serving(HEALTHY) as other, serving(HEALTHY) as own:
        own.answer = saying(status, "", Location=f"{other.url}/internal-secret")
        with pytest.raises(PrometheusError, match=r"write the final address$") as caught:
            await ask(own, everything(own, tmp_path))
    assert caught.value.reason is Reason.PROMETHEUS_FAILED
    assert "internal-secret" not in str(caught.value)
    assert (len(own.requests), len(other.requests)) == (1, 0)


async def test_a_redirect_to_a_path_of_the_same_server_is_not_followed_either() -> None:
    async with serving(saying(302, "", Location="/login")) as server:
        with pytest.raises(PrometheusError, match="redirects are not followed"):
            await ask(server, Connection(server.url, operator_wide=True))
    assert len(server.requests) == 1


async def test_where_no_credentials_go_a_401_says_so(tmp_path: Path) -> None:
    async with serving(saying(401, "")) as others, serving(HEALTHY) as own:
        with pytest.raises(PrometheusError, match="credentials are sent to the operator-wide"):
            await ask(others, everything(own, tmp_path))


async def test_a_netrc_file_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, netrc="machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with serving(HEALTHY) as server:
        await ask(server, Connection(server.url))
    assert not any("authorization" in request.headers for request in server.requests)


async def test_a_new_token_is_sent_from_the_next_reading_on(tmp_path: Path) -> None:
    async with serving(HEALTHY) as server:
        reader = PrometheusReader(everything(server, tmp_path))
        await reader.read(server.url, "team", "demo", 600)
        written(tmp_path, token="another")
        await reader.read(server.url, "team", "demo", 600)
        reader.close()
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == [f"Bearer {TOKEN}"] * 7 + ["Bearer another"] * 7


@openssl
async def test_new_authorities_and_certificates_are_used_from_the_next_reading_on(
    tmp_path: Path,
) -> None:
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    for authority in (old, new):
        authority.server("server", [], ["127.0.0.1"])
        authority.client("client", Subject("operator"))

    def rotate(authority: Authority) -> None:
        for name in ("ca.crt", "client.crt", "client.key"):
            shutil.copy(authority.folder / name, mounted / name)

    def served(authority: Authority) -> Any:
        tls = tls_of(authority.folder, "server", clients=authority.folder / "ca.crt")
        return serving(HEALTHY, tls)

    async with served(old) as before, served(new) as after:
        for server, authority, other in ((before, old, after), (after, new, before)):
            rotate(authority)
            files = Connection(
                server.url,
                ca_file=str(mounted / "ca.crt"),
                certificate_file=str(mounted / "client.crt"),
                key_file=str(mounted / "client.key"),
                operator_wide=True,
            )
            reader = PrometheusReader(files)
            await reader.read(server.url, "team", "demo", 600)
            rotate(new if authority is old else old)
            with pytest.raises(PrometheusError, match="its certificate is not trusted"):
                await reader.read(server.url, "team", "demo", 600)
            rotate(authority)
            await reader.read(server.url, "team", "demo", 600)
            reader.close()
            assert len(server.requests) == 14
            assert len(other.requests) in (0, 14)


@openssl
def test_authorities_that_vanish_within_a_reading_are_named(tmp_path: Path) -> None:
    Authority(tmp_path)
    connection = Connection("https://127.0.0.1:9", ca_file=str(tmp_path / "ca.crt"))
    line = Line(connection)
    (tmp_path / "ca.crt").unlink()
    with pytest.raises(PrometheusError, match=r"invalid path: .*/ca\.crt"), told(connection):
        line.ask("up")


@openssl
async def test_without_a_check_of_certificates_anybody_may_answer(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("server", ["elsewhere"], ["127.0.0.2"])
    async with serving(HEALTHY, tls_of(tmp_path, "server")) as server:
        with pytest.raises(PrometheusError, match="its certificate is not trusted"):
            await ask(server, Connection(server.url, operator_wide=True))
        with pytest.raises(PrometheusError, match="only public authorities are trusted there"):
            await ask(server, Connection("http://elsewhere", insecure=True, operator_wide=True))
        await ask(server, Connection(server.url, insecure=True, operator_wide=True))
    assert len(server.requests) == 7


@openssl
@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"token_file": "absent"}, "absent cannot be read: No such file or directory: check the"),
        ({"token_file": "empty"}, "empty does not hold one line of printable ASCII"),
        ({"token_file": "two-lines"}, "two-lines does not hold one line"),
        ({"token_file": "umlaut"}, "umlaut does not hold one line of printable ASCII"),
        ({"token_file": "/dev/zero"}, "/dev/zero does not hold one line"),
        ({"token_file": ""}, "cannot be read: Is a directory"),
        ({"username_file": "empty", "password_file": "umlaut"}, "empty does not hold one line"),
        ({"username_file": "pair", "password_file": "pair"}, "pair holds a ':', which no user may"),
        ({"ca_file": "absent"}, "absent cannot be read: No such file"),
        ({"ca_file": "umlaut"}, "umlaut holds no certificate in PEM"),
        ({"headers_folder": "absent"}, "absent cannot be read"),
        ({"headers_folder": "odd"}, "X Secret: its name is not that of a header"),
        ({"certificate_file": "client.crt", "key_file": "absent"}, "absent cannot be read"),
        ({"certificate_file": "client.crt", "key_file": "ca.key"}, "are not a certificate and its"),
        ({"certificate_file": "client.crt", "key_file": "locked.key"}, "without a password"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_and_not_shown(
    files: dict[str, str], words: str, tmp_path: Path
) -> None:
    written(
        tmp_path,
        **{
            "empty": "\n",
            "pair": f"a:{TOKEN}",
            "two-lines": f"{TOKEN}\n{TOKEN}",
            "umlaut": f"{TOKEN}ü",
        },
    )
    written(tmp_path / "odd", **{"X Secret": TOKEN})
    Authority(tmp_path).client("client", Subject("operator"))
    lock(tmp_path / "client.key", tmp_path / "locked.key")
    paths: dict[str, Any] = {name: str(tmp_path / file) for name, file in files.items()}
    async with serving(HEALTHY) as server:
        with pytest.raises(PrometheusError) as caught:
            await ask(server, Connection(server.url, **paths, operator_wide=True))
    assert caught.value.reason is Reason.PROMETHEUS_UNAUTHORIZED
    assert words in str(caught.value)
    assert TOKEN not in str(caught.value)
    assert not server.requests
