"""Reads the body of a request from any pieces, without a connection."""

import re
from typing import Final, Protocol

from cascade_router import limits
from cascade_router.errors import INVALID_REQUEST, RequestError
from cascade_router.request_head import FIELD_LINES

_LINE_END: Final = b"\r\n"
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*+)?")


class Body(Protocol):
    """A body that has not arrived completely."""

    content: bytearray
    """What has arrived."""

    @property
    def received(self) -> int:
        """Bytes of the connection that it took, framing among them."""

    def feed(self, data: bytes) -> bytes | None:
        """Take what belongs to the body. What follows it, once it is complete, else None.

        Raises RequestError.
        """


def too_large(limit: int) -> RequestError:
    """The answer to a body that is announced or grows beyond the limit."""
    return RequestError(413, INVALID_REQUEST, f"the body is larger than {limit} bytes")


class SizedBody:
    """A body whose length is known."""

    __slots__ = ("_length", "content")

    def __init__(self, length: int) -> None:
        self._length = length
        self.content = bytearray()

    @property
    def received(self) -> int:
        """All is content."""
        return len(self.content)

    def feed(self, data: bytes) -> bytes | None:
        """See Body."""
        missing = self._length - len(self.content)
        if len(data) < missing:
            self.content += data
            return None
        self.content += data[:missing]
        return data[missing:]


class ChunkedBody:
    """A body in chunks. Extensions and trailers are read, limited, and forgotten."""

    __slots__ = ("_extensions", "_limit", "_missing", "_rest", "_taken", "_trailers", "content")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._rest = b""
        """Of a line that has not ended."""
        self._missing = 0
        """Bytes of the chunk that are to come, with the line end behind them."""
        self._extensions = 0
        self._trailers = -1
        """Bytes of trailers that have come; below 0 before the last chunk."""
        self.content = bytearray()
        self._taken = 0

    @property
    def received(self) -> int:
        """What was fed."""
        return self._taken

    def feed(self, data: bytes) -> bytes | None:
        """See Body."""
        self._taken += len(data)
        data = self._rest + data
        position = 0
        while True:
            if self._missing:
                position = self._take(data, position)
                if self._missing:
                    self._rest = b""
                    return None
            end = data.find(_LINE_END, position, position + limits.MAX_CHUNK_LINE_BYTES)
            if end < 0:
                self._rest = data[position:]
                if len(self._rest) >= limits.MAX_CHUNK_LINE_BYTES:
                    raise _invalid("a line between chunks is too long")
                return None
            line, position = data[position:end], end + len(_LINE_END)
            if self._trailers < 0:
                self._begin_chunk(line)
            elif line:
                self._pass_over(line)
            else:
                return data[position:]

    def _take(self, data: bytes, position: int) -> int:
        """Take what there is of the chunk, and its line end; where the rest begins."""
        end = position + self._missing - len(_LINE_END)
        first = max(end, position)
        self.content += data[position:first]
        after = min(position + self._missing, len(data))
        line_end = data[first:after]
        if line_end and line_end != _LINE_END[first - end :][: len(line_end)]:
            raise _invalid("a chunk is not as long as it says")
        self._missing -= after - position
        return after

    def _begin_chunk(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if found is None:
            raise _invalid("the size of a chunk is no number")
        self._extensions += len(found[2] or b"")
        if self._extensions > limits.MAX_CHUNK_EXTENSION_BYTES:
            raise _invalid("the extensions of the chunks are too long")
        size = int(found[1], 16)
        if len(self.content) + size > self._limit:
            raise too_large(self._limit)
        if size:
            self._missing = size + len(_LINE_END)
        else:
            self._trailers = 0

    def _pass_over(self, trailer: bytes) -> None:
        self._trailers += len(trailer)
        if self._trailers > limits.MAX_TRAILER_BYTES:
            raise _invalid("the trailers are too long")
        if FIELD_LINES.fullmatch(trailer.decode("latin-1") + "\r\n") is None:
            raise _invalid("a trailer is not `NAME: VALUE`")


def _invalid(what: str) -> RequestError:
    return RequestError(400, INVALID_REQUEST, f"this is not a valid chunked body: {what}")
