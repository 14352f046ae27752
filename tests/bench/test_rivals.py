"""Other projects' routers: how they are started, waited for, and what is said when they are not."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from e2e.bench.rivals import RIVALS, NotInstalled, NotServing, install
from e2e.bench.rivals.process import free_ports, serving, started

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/ready" else 404)
        self.end_headers()
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        pytest.param("vllm-router", ["bin/vllm-router"], id="vllm-router takes options at once"),
        pytest.param("sglang-router", ["bin/sglang-router", "launch"], id="sglang-router launches"),
    ],
)
def test_the_command_line_of_a_rival(name: str, begins: list[str]) -> None:
    workers = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    command = RIVALS[name].arguments(Path("bin"), 8000, 9000, workers, "random")
    assert command[: len(begins)] == begins
    assert command[-3:] == ["--worker-urls", *workers]
    options = dict(pairwise(command))
    assert options["--port"] == "8000"
    assert options["--prometheus-port"] == "9000"
    assert options["--policy"] == "random"
    assert options["--host"] == options["--prometheus-host"] == "127.0.0.1"


def test_a_server_is_waited_for_and_stopped(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port)]
    with serving("server", command, port, tmp_path, ready="/ready") as server:
        assert server.process.poll() is None
        assert server.url == f"http://127.0.0.1:{port}"
        assert "listening" in server.last_words()
    assert server.process.poll() is not None


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", "raise SystemExit('no memory left')"]
    with (
        pytest.raises(NotServing, match=r"server ended with status 1:\nno memory left"),
        serving("server", command, port, tmp_path, ready="/ready"),
    ):
        pass


def test_a_server_that_is_never_ready_is_given_up(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    command = [sys.executable, "-c", SERVER, str(port)]
    with (
        started("server", command, port, tmp_path) as server,
        pytest.raises(NotServing, match=r"did not answer /other with 200 within 0\.2 s"),
    ):
        server.wait_until("/other", seconds=0.2)


def test_packages_that_cannot_be_installed_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(NotInstalled, match=r"ended with status 1; the other routers need"):
        install()
    assert not list(tmp_path.rglob("ready"))
