"""The API server, as the operator uses it: raw JSON, explicit field managers, bounded requests.

Every write goes through the client that `main` hands out, which refuses to write when this
process may no longer be the leader.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio.client import ApiClient

from cascade_operator.kinds import POD, Kind
from cascade_operator.pod_object import PodObject, PodPage, read_page

Json = Mapping[str, Any]

REQUEST_SECONDS: Final = 8.0
"""Limit of a read."""
WRITE_SECONDS: Final = 3.0
"""Limit of a write: with the renew deadline of the Lease together no longer than the Lease, so
that no write of an old leader arrives when another may lead."""
_PAGE: Final = 500
_CONCURRENCY: Final = 16
READS: Final = frozenset({"get", "list"})
_VERBS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
"""What Kubernetes calls the requests that write."""


class ClusterError(Exception):
    """The API server could not be reached, or answered with a failure; `status` 0 is no answer."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def conflict(self) -> bool:
        """Whether the object is not, or no longer, what the write was meant for."""
        return self.status == 409

    @property
    def gone(self) -> bool:
        """Whether the object does not exist."""
        return self.status == 404

    @property
    def namespace_ends(self) -> bool:
        """Whether nothing can be created any more, because the namespace is being deleted."""
        return self.status == 403 and "because it is being terminated" in self.message

    @property
    def refused(self) -> bool:
        """Whether the same request would be refused again: it is malformed or forbidden."""
        return self.status in (400, 403, 413, 422)


class NotLeader(Exception):
    """This process may not write: it no longer holds the Lease, or cannot be sure that it does."""


class ClusterApi(Protocol):
    """What the shell needs of a cluster. All methods raise ClusterError; writes NotLeader too."""

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        """One object, None if there is none."""

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        """All objects with these labels, as the API server has them now."""

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[PodObject]:
        """All pods with these labels, as the API server has them now."""

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        """Create an object; a conflict if it exists."""

    async def apply(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        """Server-side apply, by force: what it names is ours."""

    async def apply_status(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        """Server-side apply of the status alone."""

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json, manager: str) -> Json:
        """Strategic-merge patch; uid and resourceVersion in its metadata are preconditions."""

    async def json_patch(
        self, kind: Kind, namespace: str, name: str, patch: Sequence[Json], manager: str
    ) -> Json:
        """JSON patch; a resourceVersion that it puts in place is a precondition."""

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, resource_version: str | None = None
    ) -> None:
        """Delete exactly this object in the background; an absent one is fine."""


class Cluster:
    """ClusterApi over the connection pool of `kubernetes.aio`."""

    def __init__(self, client: ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._may_write = may_write
        self._slots = asyncio.Semaphore(_CONCURRENCY)
        self.requests: Counter[str] = Counter()
        """Requests so far by verb, those that failed included."""

    @property
    def writes(self) -> int:
        """Requests so far that write."""
        return sum(count for verb, count in self.requests.items() if verb not in READS)

    async def get(self, kind: Kind, namespace: str, name: str) -> Json | None:
        try:
            return _answer(*await self._send("get", "GET", kind.path(namespace, name)))
        except ClusterError as error:
            if error.gone:
                return None
            raise

    async def list(self, kind: Kind, namespace: str, labels: Mapping[str, str]) -> list[Json]:
        items: list[Json] = []
        token = ""
        while True:
            page = _answer(*await self._page(kind, namespace, labels, token))
            items.extend(page["items"])
            if not (token := page["metadata"].get("continue", "")):
                return items

    async def look(self, kind: Kind, namespace: str) -> None:
        """Read next to nothing of a kind, to see whether it may be read; namespace "" is the whole
        cluster. Raises ClusterError."""
        _answer(*await self._send("list", "GET", kind.path(namespace), {"limit": "1"}))

    async def pods(self, namespace: str, labels: Mapping[str, str]) -> Sequence[PodObject]:
        items: list[PodObject] = []
        token = ""
        while True:
            page = _pods(*await self._page(POD, namespace, labels, token))
            items.extend(page.items)
            if not (token := page.metadata.next_page):
                return items

    async def _page(
        self, kind: Kind, namespace: str, labels: Mapping[str, str], token: str
    ) -> tuple[int, bytes]:
        """Status and text of a page of a list: the first, or the one that the token stands for."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        query = {"labelSelector": selector, "limit": str(_PAGE)}
        if token:
            query["continue"] = token
        return await self._send("list", "GET", kind.path(namespace), query)

    async def create(self, kind: Kind, namespace: str, manifest: Json) -> Json:
        return await self._write("POST", kind.path(namespace), {}, manifest)

    async def apply(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        path = kind.path(namespace, manifest["metadata"]["name"])
        return await self._apply(path, manifest, manager)

    async def apply_status(self, kind: Kind, namespace: str, manifest: Json, manager: str) -> Json:
        path = kind.path(namespace, manifest["metadata"]["name"], "status")
        return await self._apply(path, manifest, manager)

    async def patch(self, kind: Kind, namespace: str, name: str, patch: Json, manager: str) -> Json:
        query = {"fieldManager": manager}
        content = "application/strategic-merge-patch+json"
        return await self._write("PATCH", kind.path(namespace, name), query, patch, content)

    async def json_patch(
        self, kind: Kind, namespace: str, name: str, patch: Sequence[Json], manager: str
    ) -> Json:
        query = {"fieldManager": manager}
        content = "application/json-patch+json"
        return await self._write("PATCH", kind.path(namespace, name), query, list(patch), content)

    async def replace(self, kind: Kind, namespace: str, name: str, manifest: Json) -> Json:
        return await self._write("PUT", kind.path(namespace, name), {}, manifest)

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str, resource_version: str | None = None
    ) -> None:
        preconditions = {"uid": uid}
        if resource_version is not None:
            preconditions["resourceVersion"] = resource_version
        body = {"preconditions": preconditions, "propagationPolicy": "Background"}
        try:
            await self._write("DELETE", kind.path(namespace, name), {}, body)
        except ClusterError as error:
            if not error.gone:
                raise

    async def _apply(self, path: str, manifest: Json, manager: str) -> Json:
        query = {"fieldManager": manager, "force": "true"}
        return await self._write("PATCH", path, query, manifest, "application/apply-patch+yaml")

    async def _write(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Json | Sequence[Json],
        content: str = "application/json",
    ) -> Json:
        return _answer(*await self._send(_VERBS[method], method, path, query, body, content))

    async def _send(
        self,
        verb: str,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json | Sequence[Json] | None = None,
        content: str = "application/json",
    ) -> tuple[int, bytes]:
        """Status and text of the answer. Raises ClusterError where there is none."""
        write = verb not in READS
        url = quote(path) + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content}
        async with self._slots:
            # Waiting for the slot takes time, in which the leadership may have ended.
            if write and not self._may_write():
                raise NotLeader
            self.requests[verb] += 1
            try:
                async with asyncio.timeout(WRITE_SECONDS if write else REQUEST_SECONDS):
                    await self._client.update_params_for_auth(
                        headers, [], ["BearerToken"], url, method, body
                    )
                    response = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
                        method, self._client.configuration.host + url, headers=headers, body=body
                    )
                    data = await response.read()
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                raise ClusterError(
                    0, "Unreachable", f"the API server does not answer: {error!r}"
                ) from error
        return response.status, data


def _pods(status: int, data: bytes) -> PodPage:
    if status >= 400:
        _answer(status, data)
    try:
        return read_page(data)
    except ValueError as error:
        raise ClusterError(status, "NotPods", f"the API server's list of pods: {error}") from None


def _answer(status: int, data: bytes) -> Json:
    try:
        body = json.loads(data)
    except ValueError:
        raise ClusterError(status, "NotJson", data[:200].decode(errors="replace")) from None
    if not isinstance(body, dict):
        raise ClusterError(status, "NotJson", "the API server's answer is no object")
    if status >= 400:
        raise ClusterError(status, str(body.get("reason", "")), str(body.get("message", "")))
    return body
