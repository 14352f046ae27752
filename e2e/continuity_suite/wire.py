"""One HTTP request on a connection of its own, read as slowly or left as early as a case wants."""

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

SILENCE_SECONDS: Final = 60.0
"""How long nothing may come before an answer counts as lost."""
_SMALL_BUFFER: Final = 4096
_PIECE_BYTES: Final = 2048
_LINE_BYTES: Final = 1 << 22


class LeaveNow(Exception):
    """Raised by a watcher: the client closes its connection here."""


@dataclass
class Received:
    """What came back. `lost` says why the answer did not end as HTTP wants it to."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    lost: str | None = None
    left: bool = False
    """Whether the client closed the connection itself."""
    events: int = 0
    """Events of a stream so far."""
    _pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        """All of it so far."""
        return b"".join(self._pieces)

    def add(self, data: bytes) -> None:
        """One more piece of the body."""
        before = self._pieces[-1][-1:] if self._pieces else b""
        self._pieces.append(data)
        self.events += (before + data).count(b"\n\n")


Watch = Callable[[Received], None]


@dataclass(frozen=True)
class Client:
    """Sends requests to one server. `headers` go with each of them."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any] | bytes,
        *,
        slow: bool = False,
        watch: Watch | None = None,
    ) -> Received:
        """Ask for a generation; `watch` sees the answer after each piece of it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self._ask("POST", path, data, slow=slow, watch=watch)

    async def get(self, path: str) -> Received:
        """A page."""
        return await self._ask("GET", path, b"")

    async def _ask(
        self, method: str, path: str, body: bytes, *, slow: bool = False, watch: Watch | None = None
    ) -> Received:
        got = Received()
        try:
            reader, writer = await self._connect(slow)
        except OSError as error:
            got.lost = f"no connection: {error.strerror or error}"
            return got
        try:
            writer.write(self._head(method, path, len(body)) + body)
            await _Reading(reader, got, watch, slow).whole()
        except LeaveNow:
            got.left = True
            writer.transport.abort()
        except TimeoutError:
            got.lost = f"nothing came for {SILENCE_SECONDS:g} s"
        except (OSError, asyncio.IncompleteReadError, ValueError) as error:
            got.lost = f"the connection broke in mid-answer: {type(error).__name__}"
        finally:
            writer.close()
        return got

    async def _connect(self, slow: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.url)
        secure = parts.scheme == "https"
        context = ssl.create_default_context() if secure else None
        port, host = parts.port or (443 if secure else 80), parts.hostname or "127.0.0.1"
        if not slow:
            return await asyncio.open_connection(host, port, ssl=context, limit=_LINE_BYTES)
        raw = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, port))
        name = host if secure else None
        return await asyncio.open_connection(
            sock=raw, ssl=context, server_hostname=name, limit=_SMALL_BUFFER
        )

    def _head(self, method: str, path: str, length: int) -> bytes:
        parts = urlsplit(self.url)
        lines = [
            f"{method} {parts.path.rstrip('/')}{path} HTTP/1.1",
            f"host: {parts.netloc}",
            "content-type: application/json",
            f"content-length: {length}",
            "connection: close",
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


class _Reading:
    """Reads one answer into `got`."""

    def __init__(
        self, reader: asyncio.StreamReader, got: Received, watch: Watch | None, slow: bool
    ) -> None:
        self._reader = reader
        self._got = got
        self._watch = watch
        self._slow = slow

    async def whole(self) -> None:
        """To its end. Raises what breaks it."""
        await self._read_head()
        headers = self._got.headers
        if self._watch is not None:
            self._watch(self._got)
        if "chunked" in headers.get("transfer-encoding", ""):
            await self._read_chunks()
        elif "content-length" in headers:
            await self._read_bytes(int(headers["content-length"]))
        else:
            while data := await self._some(_PIECE_BYTES):
                self._take(data)

    async def _read_head(self) -> None:
        status = (await self._line()).split(b" ", 2)
        if len(status) < 2:
            raise ConnectionResetError("no answer")
        self._got.status = int(status[1])
        while line := await self._line():
            name, _, value = line.partition(b":")
            self._got.headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")

    async def _read_chunks(self) -> None:
        while size := int((await self._line()).partition(b";")[0], 16):
            await self._read_bytes(size)
            await self._line()
        await self._line()

    async def _read_bytes(self, left: int) -> None:
        while left:
            data = await self._some(min(left, _PIECE_BYTES) if self._slow else left)
            if not data:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(data)
            self._take(data)

    async def _line(self) -> bytes:
        async with asyncio.timeout(SILENCE_SECONDS):
            line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise asyncio.IncompleteReadError(line, None)
        return line.rstrip(b"\r\n")

    async def _some(self, size: int) -> bytes:
        if self._slow:
            await asyncio.sleep(0.002)
        async with asyncio.timeout(SILENCE_SECONDS):
            return await self._reader.read(size)

    def _take(self, data: bytes) -> None:
        self._got.add(data)
        if self._watch is not None:
            self._watch(self._got)
