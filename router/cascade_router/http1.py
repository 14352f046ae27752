"""HTTP/1.1 heads and chunks as bytes: one place that knows the wire format of what is written."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream; charset=utf-8"

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """One request as it was read, see `request_head`."""

    method: str
    path: str
    """Without the query."""
    headers: dict[str, str]
    body: bytes


def request_bytes(
    method: str, path: str, host: str, headers: Iterable[tuple[str, str]], body: bytes
) -> bytes:
    """A whole request with a JSON body (none for GET)."""
    lines = [f"{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept-encoding: identity\r\n"]
    if body or method == "POST":
        lines.append(f"content-type: {JSON}\r\ncontent-length: {len(body)}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append("\r\n")
    return "".join(lines).encode("latin-1") + body


def response_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers, with the empty line that ends them."""
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines.append("\r\n")
    return "".join(lines).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """`data` framed as one chunk; it must not be empty, which would end the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)
