"""A real Prometheus on loopback, from the programs of the local cluster."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from e2e.cluster.binaries import PROMETHEUS, folder_of

SCRAPE_SECONDS = 0.2
DEADLINE_SECONDS = 30.0


@dataclass(frozen=True)
class Prometheus:
    """Where it listens, and where its configuration lies."""

    url: str
    web_config: Path
    """Authentication and TLS; it is read anew for each connection."""

    def secure(self, content: Mapping[str, Any]) -> None:
        """Change its web.config.yml."""
        self.web_config.write_text(yaml.safe_dump(dict(content)))

    async def until(self, query: str, least: float, client: httpx.AsyncClient) -> None:
        """Wait until `query`, of one value, is at least `least`."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        seen = -1.0
        while seen < least:
            assert time.monotonic() < deadline, f"{query} is {seen:g}, not {least:g}"
            await asyncio.sleep(SCRAPE_SECONDS / 4)
            seen = await self._value(query, client)

    async def _value(self, query: str, client: httpx.AsyncClient) -> float:
        """-1 before it is up, and before the first scrape."""
        try:
            answer = await client.get(f"{self.url}/api/v1/query", params={"query": query})
        except httpx.TransportError:
            return -1.0
        rows = answer.json().get("data", {}).get("result", []) if answer.is_success else []
        return float(rows[0]["value"][1]) if rows else -1.0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@asynccontextmanager
async def prometheus(
    folder: Path,
    targets: Sequence[Mapping[str, Any]],
    web: Mapping[str, Any] | None = None,
    scheme: str = "http",
    scrape_seconds: float = SCRAPE_SECONDS,
) -> AsyncIterator[Prometheus]:
    """One that scrapes `targets` (static_configs) until the block ends.

    Skips the test where its program is not built.
    """
    program = folder_of(PROMETHEUS) / "prometheus"
    if not program.exists():
        pytest.skip("no Prometheus is built here: e2e/demo --cluster local builds one")
    config = folder / "prometheus.yml"
    job = {"job_name": "engines", "static_configs": [dict(target) for target in targets]}
    timing = {"scrape_interval": f"{scrape_seconds * 1000:.0f}ms"}
    config.write_text(yaml.safe_dump({"global": timing, "scrape_configs": [job]}))
    port = free_port()
    server = Prometheus(f"{scheme}://127.0.0.1:{port}", folder / "web.yml")
    server.secure(web or {})
    process = await asyncio.create_subprocess_exec(
        program,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--web.config.file={server.web_config}",
        # How long targets wait to be known; hidden, and 5 s as it ships.
        "--scrape.discovery-reload-interval=100ms",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield server
    finally:
        process.terminate()
        await process.wait()


def client(authorities: Path | None = None, **options: Any) -> httpx.AsyncClient:
    """A client that does not spend the time of a test on loading public certificates."""
    verify: ssl.SSLContext | bool = False
    if authorities is not None:
        verify = ssl.create_default_context(cafile=authorities)
    return httpx.AsyncClient(timeout=30, verify=verify, trust_env=False, **options)
