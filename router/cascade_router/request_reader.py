"""Reads requests from the bytes of a connection, however they are cut: head, then body, one by one.

Pure. What is not asked for waits unread; whoever feeds it limits how much that is.
"""

from typing import Protocol

from cascade_router import limits
from cascade_router.errors import UNAVAILABLE, RequestError
from cascade_router.request_body import Body, ChunkedBody, SizedBody
from cascade_router.request_head import Head, find_head, judge


class Shared(Protocol):
    """What the readers of all connections share."""

    max_body_bytes: int
    """Of one request."""
    unread_bytes: int
    """Bodies that have not arrived completely, all connections together."""


class RequestReader:
    """The requests of one connection."""

    __slots__ = ("_body", "_counted", "_held", "_searched", "_shared")

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._held = b""
        self._searched = 0
        """Bytes of it that hold no end of a head."""
        self._body: Body | None = None
        self._counted = 0
        """What is counted of it as unread."""

    @property
    def waiting(self) -> int:
        """Bytes that are not read yet."""
        return len(self._held)

    def feed(self, data: bytes) -> None:
        """More bytes have come."""
        self._held = self._held + data if self._held else data

    def next_head(self) -> Head | None:
        """The next head, once it is complete. Raises RequestError."""
        if not self._held:
            return None
        end = find_head(self._held, self._searched)
        if not end:
            self._searched = len(self._held)
            return None
        self._searched = 0
        head = judge(self._held[:end])
        self._held = self._held[end:]
        return head

    def next_body(self, head: Head) -> bytes | None:
        """The body behind `head`, once it is complete. Raises RequestError."""
        length = head.length
        body = self._body
        if body is None:
            if length is not None and length <= len(self._held):
                content, self._held = self._held[:length], self._held[length:]
                return content
            limit = self._shared.max_body_bytes
            body = ChunkedBody(limit) if length is None else SizedBody(length)
            self._body = body
        rest = body.feed(self._held)
        if rest is None:
            self._held = b""
            self._count(len(body.content))
            return None
        self._held = rest
        self._forget_body()
        return bytes(body.content)

    def drips(self, seconds: float) -> bool:
        """Whether a body that has been coming for so long comes too slowly."""
        least = (seconds - limits.BODY_STALL_SECONDS) * limits.MIN_BODY_BYTES_PER_SECOND
        return self._body is not None and self._body.received < least

    def take_rest(self) -> bytes:
        """All that waits, for somebody else; what has been read of a body is forgotten."""
        rest, self._held = self._held, b""
        self._searched = 0
        self._forget_body()
        return rest

    def _count(self, unread: int) -> None:
        grown = unread - self._counted
        if self._shared.unread_bytes + grown > limits.MAX_UNREAD_BYTES:
            message = "too many large requests arrive at once; try again"
            raise RequestError(503, UNAVAILABLE, message, retry_after=1)
        self._shared.unread_bytes += grown
        self._counted = unread

    def _forget_body(self) -> None:
        self._shared.unread_bytes -= self._counted
        self._counted = 0
        self._body = None
