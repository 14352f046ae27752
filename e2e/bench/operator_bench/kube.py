"""The API server as the bench uses it: raw JSON requests and watches over one connection pool."""

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config

Json = dict[str, Any]

APPLY: Final = "application/apply-patch+yaml"
STRATEGIC: Final = "application/strategic-merge-patch+json"
_MANAGER: Final = "operator-bench"
_LONGEST_LINE: Final = 4 << 20
_SECONDS: Final = aiohttp.ClientTimeout(total=30)
_FOREVER: Final = aiohttp.ClientTimeout(total=None, sock_connect=10)


class KubeError(Exception):
    """The API server answered with a failure of this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Kube:
    """Requests as the administrator of a kubeconfig."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def request(
        self, method: str, path: str, body: Json | None = None, content: str = "application/json"
    ) -> Json:
        """The answer's object. Raises KubeError."""
        data = await self.text(method, path, body, content)
        answer: Json = json.loads(data)
        return answer

    async def text(
        self, method: str, path: str, body: Json | None = None, content: str = "application/json"
    ) -> str:
        """The answer as it is. Raises KubeError."""
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, self._url + path, data=data, headers={"Content-Type": content}, timeout=_SECONDS
        ) as response:
            text = await response.text()
        if response.status >= 400:
            raise KubeError(response.status, text[:300])
        return text

    async def apply(self, path: str, body: Json, subresource: str = "") -> Json:
        """Server-side apply of the object at `path`."""
        query = f"?fieldManager={_MANAGER}&force=true"
        return await self.request("PATCH", path + subresource + query, body, APPLY)

    async def watch(self, path: str, selector: str, version: str) -> AsyncIterator[Json]:
        """Events after `version`, until the API server ends the watch. Raises KubeError."""
        query = {"watch": "1", "labelSelector": selector, "resourceVersion": version}
        async with self._session.get(self._url + path, params=query, timeout=_FOREVER) as response:
            if response.status >= 400:
                raise KubeError(response.status, (await response.text())[:300])
            async for line in response.content:
                yield json.loads(line)


@asynccontextmanager
async def connect(kubeconfig: Path, connections: int = 32) -> AsyncIterator[Kube]:
    """A connection pool for the time of the block."""
    settings = client.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        config_file=str(kubeconfig), client_configuration=settings
    )
    trust = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    trust.load_cert_chain(str(settings.cert_file), settings.key_file)
    connector = aiohttp.TCPConnector(ssl=trust, limit=connections)
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"Accept-Encoding": "identity"},
        read_bufsize=_LONGEST_LINE,
    ) as session:
        yield Kube(settings.host, session)
