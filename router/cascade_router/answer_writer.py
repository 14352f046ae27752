"""Writes answers to the transport of a client: framing, and what the client can take."""

import asyncio
from collections.abc import Iterable
from typing import Final

from cascade_router.http1 import CONTINUE, LAST_CHUNK, chunk, response_head

_CLOSE: Final = ("connection", "close")


class AnswerWriter:
    """One answer after the other, to one transport."""

    __slots__ = ("_chunked", "_http_1_0", "_silent", "begun", "keep_alive", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        """None before there is one, and when there is none any more: nothing is written then."""
        self.keep_alive = True
        """Whether the connection outlives the answer; to be settled before its head is written."""
        self.begun = False
        """Whether its head is written."""
        self._http_1_0 = False
        self._chunked = False
        self._silent = False

    def prepare(self, http_1_0: bool = False, silent: bool = False) -> None:
        """For the next answer; of a `silent` one the head is all that is sent."""
        self.begun = self._chunked = False
        self._http_1_0 = http_1_0
        self._silent = silent

    def go_on(self) -> None:
        """Ask for the body of the request."""
        self._write(CONTINUE)

    def whole(self, status: int, body: bytes, headers: Iterable[tuple[str, str]]) -> None:
        """A whole answer in one write."""
        self.begun = True
        lines = [*headers, ("content-length", str(len(body)))]
        if not self.keep_alive:
            lines.append(_CLOSE)
        head = response_head(status, lines)
        self._write(head if self._silent else head + body)

    def begin(
        self, status: int, headers: Iterable[tuple[str, str]], length: int | None = None
    ) -> None:
        """The head of an answer whose body follows; `length` in bytes where it is known."""
        self.begun = True
        lines = list(headers)
        if length is not None:
            lines.append(("content-length", str(length)))
        elif self._http_1_0:
            self.keep_alive = False
        else:
            lines.append(("transfer-encoding", "chunked"))
            self._chunked = not self._silent
        if not self.keep_alive:
            lines.append(_CLOSE)
        self._write(response_head(status, lines))

    def body(self, data: bytes) -> None:
        """A piece of the body, in one write."""
        if data and self.transport is not None:
            if self._chunked:
                self.transport.write(chunk(data))
            elif not self._silent:
                self.transport.write(data)

    def end(self, data: bytes) -> None:
        """The last piece."""
        if self._chunked:
            self._write((chunk(data) if data else b"") + LAST_CHUNK)
        else:
            self.body(data)

    def _write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)
