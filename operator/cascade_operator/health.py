"""What the kubelet and Prometheus ask of the operator: /healthz, /readyz, /metrics."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_HEAD_LIMIT: Final = 8192
_SECONDS: Final = 5.0


@dataclass(slots=True)
class Vitals:
    """Numbers of this process, written by the shell and shown as they are."""

    watching: bool = False
    leader: bool = False
    services: int = 0
    passes: int = 0
    failed_passes: int = 0
    pods_moved: int = 0
    longest_pass_seconds: float = 0.0

    requests: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Requests to the API server so far, and how many of them were writes."""

    def count_requests(self, requests: Callable[[], tuple[int, int]]) -> None:
        """Where the numbers of requests come from."""
        self.requests = requests

    def metrics(self) -> str:
        """The text format of Prometheus."""
        requests, writes = self.requests()
        rows = [
            ("cascade_operator_leader", "gauge", int(self.leader)),
            ("cascade_operator_services", "gauge", self.services),
            ("cascade_operator_passes_total", "counter", self.passes),
            ("cascade_operator_failed_passes_total", "counter", self.failed_passes),
            ("cascade_operator_api_requests_total", "counter", requests),
            ("cascade_operator_api_writes_total", "counter", writes),
            ("cascade_operator_pods_moved_total", "counter", self.pods_moved),
            ("cascade_operator_longest_pass_seconds", "gauge", self.longest_pass_seconds),
        ]
        return "".join(f"# TYPE {name} {type_}\n{name} {value}\n" for name, type_, value in rows)


async def serve_health(host: str, port: int, vitals: Vitals) -> asyncio.Server:
    """Start answering on host:port (0: any free one), until the server is closed."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(head, vitals))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(answer, host, port, limit=_HEAD_LIMIT)


def _respond(head: bytes, vitals: Vitals) -> bytes:
    method, _, rest = head.partition(b" ")
    path = rest.partition(b" ")[0].partition(b"?")[0]
    if method != b"GET":
        return _response("405 Method Not Allowed", "only GET\n")
    if path == b"/healthz":
        return _response("200 OK", "ok\n")
    if path == b"/readyz":
        ready = vitals.watching or not vitals.leader
        return _response("200 OK", "ok\n") if ready else _response("503 Unavailable", "starting\n")
    if path == b"/metrics":
        return _response("200 OK", vitals.metrics())
    return _response("404 Not Found", "no such page\n")


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
