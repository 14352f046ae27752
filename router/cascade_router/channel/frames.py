"""Frames: what travels on a channel. One file, both directions.

A frame is its kind (1 byte), the number of the stream or question that it belongs to (4 bytes), the
length of its content (4 bytes), all big-endian, and the content. The front numbers streams and
questions; a number is not used twice on one channel.
"""

from collections.abc import Callable
from enum import IntEnum
from struct import Struct
from typing import Final

HEADER: Final = Struct(">BII")
HEADER_BYTES: Final = HEADER.size
MAX_NUMBER: Final = 0xFFFF_FFFF


class Kind(IntEnum):
    """What a frame means."""

    # From the front.
    PROOF = 1
    """The answer to the target's challenge; the first frame on every channel."""
    OPEN = 2
    """A request: length of its announcement (4 bytes), the announcement as JSON, the body."""
    ABORT = 3
    """Nobody wants the answer any more."""
    PAUSE = 4
    """The client does not keep up: send no more of this answer for now."""
    RESUME = 5
    ASK = 6
    """A question for a bid, as JSON."""
    PING = 7

    # From the target.
    HEAD = 16
    """Status and headers, as JSON."""
    BODY = 17
    """A piece of the answer's body."""
    END = 18
    """The answer is complete."""
    LOST = 19
    """The engine was lost before it was; the content says how."""
    BID = 20
    """The answer to a question, as JSON; empty when there is none."""
    PONG = 21
    LEAVE = 22
    """The front may take this sequence away: the instance runs out of memory or, where the content
    is GOING, leaves itself."""


GOING: Final = b"going"


class InvalidFrame(Exception):
    """The other side does not speak this protocol; the message says what is wrong."""


def frame(kind: Kind, number: int, content: bytes = b"") -> bytes:
    """One frame."""
    return HEADER.pack(kind, number, len(content)) + content


Receive = Callable[[int, int, bytes], None]
"""Takes a frame: kind, number, content."""


class FrameReader:
    """Cuts a byte stream into frames. Reading one costs the same however it is cut into reads."""

    __slots__ = ("_missing", "_rest", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Longest content of a frame."""
        self._rest = bytearray()
        self._missing = 0
        """Bytes without which the next frame cannot be complete."""

    def feed(self, data: bytes, receive: Receive) -> None:
        """Hand every frame that `data` completes to `receive`. Raises InvalidFrame."""
        if self._rest:
            self._rest += data
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at, end = 0, len(data)
        unpack = HEADER.unpack_from
        while end - at >= HEADER_BYTES:
            kind, number, length = unpack(data, at)
            if length > self.limit:
                raise InvalidFrame(f"a frame of {length} bytes, {self.limit} are allowed")
            start = at + HEADER_BYTES
            if start + length > end:
                self._missing = start + length - end
                break
            at = start + length
            receive(kind, number, data[start:at])
        else:
            self._missing = HEADER_BYTES - (end - at)
        if at < end:
            self._rest += data[at:]
