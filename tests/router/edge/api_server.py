"""A small API server that keeps objects, lists and watches them, and fails when told to.

It stands in for the real one where that one cannot be made to misbehave: refusals, expired
versions, connections that are cut, restarts on the same address.
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from aiohttp import web

CONFIG_MAPS: Final = "/api/v1/namespaces/team-a/configmaps"
SLICES: Final = "/apis/discovery.k8s.io/v1/namespaces/team-a/endpointslices"


class ApiServer:
    """Objects by path and name. Use as `async with`; the port stays the same over restarts."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.refuse_with: int | None = None
        self.answer_with: str | None = None
        self._objects: dict[str, dict[str, dict[str, Any]]] = {CONFIG_MAPS: {}, SLICES: {}}
        self._history: list[tuple[int, str, Any]] = []
        self._version = 100
        self._compacted = 0
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def __aenter__(self) -> "ApiServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(CONFIG_MAPS, self._answer)
        app.router.add_get(SLICES, self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def put(self, path: str, item: dict[str, Any]) -> None:
        name = item["metadata"]["name"]
        verb = "MODIFIED" if name in self._objects[path] else "ADDED"
        await self._record(path, verb, item)

    async def delete(self, path: str, name: str) -> None:
        await self._record(path, "DELETED", self._objects[path][name])

    async def interject(self, path: str, event: object) -> None:
        """Send `event`, whatever it is, to the watches of `path`."""
        async with self._news:
            self._version += 1
            self._history.append((self._version, path, event))
            self._news.notify_all()

    async def expire(self) -> None:
        """Forget the history: watches from an earlier version are told so."""
        async with self._news:
            self._version += 1
            self._compacted = self._version
            self._history.clear()
            self._news.notify_all()

    def kubeconfig(self, folder: Path) -> Path:
        path = folder / "kubeconfig"
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "clusters": [
                        {"name": "c", "cluster": {"server": f"http://127.0.0.1:{self._port}"}}
                    ],
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "users": [{"name": "u", "user": {"token": "t"}}],
                }
            )
        )
        return path

    async def _record(self, path: str, verb: str, item: dict[str, Any]) -> None:
        async with self._news:
            self._version += 1
            metadata = {**item["metadata"], "resourceVersion": str(self._version)}
            stored = {**item, "metadata": metadata}
            if verb == "DELETED":
                del self._objects[path][metadata["name"]]
            else:
                self._objects[path][metadata["name"]] = stored
            self._history.append((self._version, path, {"type": verb, "object": stored}))
            self._news.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path, dict(request.query)))
        if self.refuse_with is not None:
            return web.json_response({"kind": "Status"}, status=self.refuse_with)
        if self.answer_with is not None:
            return web.Response(text=self.answer_with, content_type="application/json")
        if request.query.get("watch", "").lower() == "true":
            return await self._watch(request)
        items = list(self._objects[request.path].values())
        return web.json_response(
            {"metadata": {"resourceVersion": str(self._version)}, "items": items}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        while True:
            async with self._news:
                while self._version <= seen:
                    await self._news.wait()
                expired = seen < self._compacted
                events = [
                    event
                    for version, path, event in self._history
                    if version > seen and path == request.path
                ]
                seen = self._version
            if expired:
                gone = {"kind": "Status", "code": 410, "message": "too old resource version"}
                events = [{"type": "ERROR", "object": gone}]
            text = "".join(json.dumps(event) + "\n" for event in events).encode()
            # In two pieces, as the network may deliver it.
            await response.write(text[:7])
            await response.write(text[7:])
            if expired:
                return response
