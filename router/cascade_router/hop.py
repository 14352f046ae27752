"""Trust between the sidecars of one service: a signed header on every request between them.

The signature covers the format version, the time, the sender's nonce and the path, so that a client
who sees one path's header cannot use it on another, nor much later. The key comes from a Secret
that Kubernetes refreshes in the running pod.
"""

import hmac
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

VERSION: Final = "v1"
MAX_SKEW_SECONDS: Final = 300.0
"""How far the clocks of two nodes may differ."""
CHECK_SECONDS: Final = 1.0
"""How often the key file is looked at."""
OVERLAP_SECONDS: Final = 600.0
"""How long the key before the newest is still good: nodes refresh a Secret minutes apart."""
MIN_KEY_BYTES: Final = 16
_MAX_STAMP_DIGITS: Final = 12
_MAX_VALUE_CHARS: Final = 512
_NONCE: Final = re.compile(r"[A-Za-z0-9-]{1,128}", re.ASCII)

_log = logging.getLogger(__name__)


class HopKeyError(Exception):
    """There is no usable key; the message names the file."""


def sign(key: bytes, path: str, wall: float, nonce: str) -> str:
    """The header value for a request to `path` (without query) at Unix time `wall`.

    `nonce` is a short text of letters, digits and hyphens that tells senders apart.
    """
    stamp = str(int(wall))
    return f"{VERSION}.{stamp}.{nonce}.{_signature(key, path, stamp, nonce)}"


def verify(keys: Iterable[bytes], value: str, path: str, wall: float) -> bool:
    """Whether `value` was signed for `path` with one of `keys`, within the tolerated clock skew."""
    if len(value) > _MAX_VALUE_CHARS or not value.isascii():
        return False
    parts = value.split(".")
    if len(parts) != 4 or parts[0] != VERSION:
        return False
    if not parts[1].isdigit() or len(parts[1]) > _MAX_STAMP_DIGITS:
        return False
    _, stamp, nonce, signature = parts
    if not _NONCE.fullmatch(nonce):
        return False
    if abs(wall - int(stamp)) > MAX_SKEW_SECONDS:
        return False
    good = False
    for key in keys:
        good |= hmac.compare_digest(signature, _signature(key, path, stamp, nonce))
    return good


def signed_text(path: str, address: str) -> str:
    """What is signed for a plain request for `path` to the sidecar at `address`."""
    return f"{path}#{address}"


def nonce_of(value: str) -> str:
    """The sender's nonce in a header that was verified."""
    return value.split(".")[2]


def _signature(key: bytes, path: str, stamp: str, nonce: str) -> str:
    # No part can contain the separator, except the path, which comes last.
    message = f"{VERSION}\n{stamp}\n{nonce}\n{path}".encode()
    return hmac.digest(key, message, "sha256").hex()


class KeyFile:
    """The key in a mounted Secret. After a rotation, the key before is accepted for a while."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checked_at = -float("inf")
        self._seen: tuple[int, int, int] | None = None
        self._current: bytes | None = None
        self._previous: bytes | None = None
        self._rotated_at = 0.0

    def keys(self, now: float) -> tuple[bytes, ...]:
        """The keys to accept, newest first; the newest one signs.

        `now` is seconds of a monotonic clock. Raises HopKeyError while no key has ever been read;
        a key that was read once stays in use when its file turns unreadable.
        """
        if now - self._checked_at >= CHECK_SECONDS:
            self._checked_at = now
            self._refresh(now)
        if self._current is None:
            raise HopKeyError(
                f"no hop key in {self._path}: the Secret is not mounted, or its key is shorter "
                f"than {MIN_KEY_BYTES} bytes"
            )
        if self._previous is not None and now - self._rotated_at > OVERLAP_SECONDS:
            self._previous = None
        return (self._current,) if self._previous is None else (self._current, self._previous)

    def _refresh(self, now: float) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_ino, status.st_size)
            if seen == self._seen:
                return
            key = self._path.read_bytes().strip()
        except OSError as error:
            _log.warning(
                "hop key file %s cannot be read: %s", self._path, os.strerror(error.errno or 0)
            )
            return
        self._seen = seen
        if len(key) < MIN_KEY_BYTES:
            _log.warning(
                "hop key in %s is shorter than %d bytes, ignored", self._path, MIN_KEY_BYTES
            )
        elif key != self._current:
            self._previous, self._current, self._rotated_at = self._current, key, now
