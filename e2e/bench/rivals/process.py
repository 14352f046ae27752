"""A server process on loopback: started, waited for, its children known, stopped."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.05
LOG_TAIL_BYTES: Final = 2000


class NotServing(Exception):
    """A process ended or did not serve in time; the message holds its last words."""


@dataclass(frozen=True)
class Server:
    """A process that serves HTTP on `port` of loopback, and its log."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Where clients reach it."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Its first process; it may have children."""
        return self.process.pid

    def last_words(self) -> str:
        """The end of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    def wait_until(self, path: str, seconds: float = START_SECONDS) -> None:
        """Wait until `path` answers 200. Raises NotServing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotServing(
                    f"{self.name} ended with status {self.process.returncode}:\n{self.last_words()}"
                )
            if _status(self.port, path) == 200:
                return
            time.sleep(POLL_SECONDS)
        raise NotServing(
            f"{self.name} did not answer {path} with 200 within {seconds:g} s:\n{self.last_words()}"
        )


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    ready: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Run `command`, which listens on `port`, until the block ends; `ready` is the path that tells
    when it serves. Its log goes to `folder`. Raises NotServing."""
    with started(name, command, port, folder, environment=environment) as server:
        server.wait_until(ready)
        yield server


@contextmanager
def started(
    name: str,
    command: Sequence[str],
    port: int,
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    stop_seconds: float = 0.0,
) -> Iterator[Server]:
    """The same without waiting. With `stop_seconds`, it may end by itself so long."""
    log = folder / f"{name}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        yield Server(name, port, process, log)
    finally:
        if stop_seconds:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(stop_seconds)
        _stop(process)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the process and its children: they are in a session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_SECONDS)


def _status(port: int, path: str) -> int | None:
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
