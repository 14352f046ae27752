"""The operator as its own process, and what it says of itself."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from e2e.bench.operator_bench.figures import Vitals, vitals_of

_END_SECONDS: Final = 20.0
_START_SECONDS: Final = 40.0


class OperatorEnded(Exception):
    """The operator's process ended by itself; the message has its last words."""


class Operator:
    """A running `cascade-operator`."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, url: str) -> None:
        self.process = process
        self._log = log
        self._url = url

    async def vitals(self) -> Vitals:
        """Its metrics and its memory now. Raises OperatorEnded."""
        if self.process.poll() is not None:
            words = self._log.read_text(errors="replace")[-1500:]
            raise OperatorEnded(f"the operator ended by itself; its last words:\n{words}")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self._url}/metrics") as answer,
        ):
            text = await answer.text()
        return vitals_of(text, self._proc("status"), self._proc("stat"))

    def _proc(self, name: str) -> str:
        return Path(f"/proc/{self.process.pid}/{name}").read_text()


@asynccontextmanager
async def operator(
    kubeconfig: Path, namespace: str, prometheus_url: str, log: Path, resync_seconds: float
) -> AsyncIterator[Operator]:
    """The operator with its Lease, as the leader, watching one namespace, until the block ends."""
    port = _free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("CASCADE_")}
    variables = {
        **own,
        "KUBECONFIG": str(kubeconfig),
        "CASCADE_ROUTER_IMAGE": "example.org/router:1",
        "CASCADE_SIMULATED_ENGINE_IMAGE": "example.org/engine-simulator:1",
        "CASCADE_NAMESPACE": namespace,
        "CASCADE_WATCH_NAMESPACES": namespace,
        "CASCADE_POD_NAME": "bench",
        "CASCADE_PROMETHEUS_URL": prometheus_url,
        "CASCADE_HEALTH_LISTEN": f"127.0.0.1:{port}",
        "CASCADE_RESYNC_SECONDS": f"{resync_seconds:g}",
    }
    process = _start(variables, log)
    running = Operator(process, log, f"http://127.0.0.1:{port}")
    try:
        async with asyncio.timeout(_START_SECONDS):
            await _until_leading(running)
        yield running
    finally:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, _END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _start(variables: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cascade_operator"]
    with log.open("wb") as output:
        return subprocess.Popen(command, env=variables, stdout=output, stderr=subprocess.STDOUT)


async def _until_leading(running: Operator) -> None:
    while True:
        try:
            if (await running.vitals()).leader:
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
