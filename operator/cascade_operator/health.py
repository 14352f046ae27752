"""What the kubelet and Prometheus ask of the operator: /healthz, /readyz, /metrics."""

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cascade_operator.cluster import READS

_HEAD_LIMIT: Final = 8192
_SECONDS: Final = 5.0
PASS_BOUNDS: Final = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5,
    5.0, 10.0, 30.0,
)  # fmt: skip
"""Seconds at which the buckets of pass times end."""


@dataclass(slots=True)
class PassSeconds:
    """How long passes took: a histogram of seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(PASS_BOUNDS) + 1))
    """Per bucket, the last one without end; not cumulative."""
    total: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one pass."""
        self.counts[bisect_left(PASS_BOUNDS, seconds)] += 1
        self.total += seconds

    def rows(self, name: str) -> Iterable[str]:
        """Its lines in the text format of Prometheus."""
        upto = 0
        for bound, count in zip((*PASS_BOUNDS, "+Inf"), self.counts, strict=True):
            upto += count
            yield f'{name}_bucket{{le="{bound}"}} {upto}'
        yield f"{name}_sum {self.total}"
        yield f"{name}_count {upto}"


@dataclass(slots=True)
class Vitals:
    """Numbers of this process, written by the shell and shown as they are."""

    watching: bool = False
    leader: bool = False
    unreadable: tuple[str, ...] = ()
    """Where a leader lacks the right to look, in words."""
    services: int = 0
    passes: int = 0
    failed_passes: int = 0
    pods_moved: int = 0
    longest_pass_seconds: float = 0.0
    pass_seconds: PassSeconds = field(default_factory=PassSeconds)

    requests: Callable[[], Mapping[str, int]] = dict
    """Requests to the API server so far, by the verb that Kubernetes has for them. Without those
    of the watches and of the Lease."""

    @property
    def not_ready_because(self) -> str:
        """Why it does not do its work; empty where it does, or where another does it."""
        if not self.leader:
            return ""
        if self.unreadable:
            return f"no right to look into {', '.join(self.unreadable)}"
        return "" if self.watching else "starting"

    def count_requests(self, requests: Callable[[], Mapping[str, int]]) -> None:
        """Where the numbers of requests come from."""
        self.requests = requests

    def count_pass(self, seconds: float) -> None:
        """A pass ended after so many seconds."""
        self.passes += 1
        self.longest_pass_seconds = max(self.longest_pass_seconds, seconds)
        self.pass_seconds.observe(seconds)

    def metrics(self) -> str:
        """The text format of Prometheus."""
        requests = self.requests()
        writes = sum(count for verb, count in requests.items() if verb not in READS)
        rows = [
            ("cascade_operator_leader", "gauge", int(self.leader)),
            ("cascade_operator_services", "gauge", self.services),
            ("cascade_operator_passes_total", "counter", self.passes),
            ("cascade_operator_failed_passes_total", "counter", self.failed_passes),
            ("cascade_operator_api_writes_total", "counter", writes),
            ("cascade_operator_pods_moved_total", "counter", self.pods_moved),
            ("cascade_operator_longest_pass_seconds", "gauge", self.longest_pass_seconds),
        ]
        lines = [f"# TYPE {name} {type_}\n{name} {value}" for name, type_, value in rows]
        name = "cascade_operator_api_requests_total"
        lines.append(f"# TYPE {name} counter")
        lines += [f'{name}{{verb="{verb}"}} {count}' for verb, count in sorted(requests.items())]
        name = "cascade_operator_pass_seconds"
        lines += [f"# TYPE {name} histogram", *self.pass_seconds.rows(name)]
        return "\n".join(lines) + "\n"


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
        trouble = vitals.not_ready_because
        return (
            _response("503 Unavailable", f"{trouble}\n") if trouble else _response("200 OK", "ok\n")
        )
    if path == b"/metrics":
        return _response("200 OK", vitals.metrics())
    return _response("404 Not Found", "no such page\n")


def _response(status: str, text: str) -> bytes:
    body = text.encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode() + body
