"""The API keys of clients, from a mounted Secret: each file of its folder holds one key.

The Secret may change at any time; Kubernetes then swaps the link `..data`, by which all files of
one version are read together. Only digests stay in memory: a key is never shown, not even in a
dump. Whatever cannot be read opens nothing.
"""

import hmac
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from secrets import token_bytes
from typing import Final, NamedTuple

CHECK_SECONDS: Final = 1.0
"""How often the folder is looked at, at most."""
MIN_KEY_BYTES: Final = 16
MAX_KEY_BYTES: Final = 1024
MAX_KEYS: Final = 256
_DATA: Final = "..data"
_HIDDEN: Final = ".."

_log = logging.getLogger(__name__)


class _File(NamedTuple):
    """A file of the folder, and by what its change is noticed."""

    name: str
    modified_ns: int
    inode: int
    size: int


class ApiKeys:
    """The keys that are good at present. Without a folder, no key is asked for."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._salt = token_bytes(32)
        self._digests: tuple[bytes, ...] = ()
        self._seen: tuple[_File, ...] | None = None
        self._checked_at = -float("inf")

    @property
    def required(self) -> bool:
        """Whether clients need a key."""
        return self._folder is not None

    def count(self, now: float) -> int:
        """Keys that are good. `now` is seconds of a monotonic clock."""
        self._refresh(now)
        return len(self._digests)

    def accept(self, presented: Iterable[str], now: float) -> bool:
        """Whether one of the `presented` texts is a key. The time that it takes tells nothing about
        the keys, except how many there are."""
        self._refresh(now)
        good = False
        for text in presented:
            if len(text) > MAX_KEY_BYTES:
                continue
            digest = self._digest(text.encode("latin-1", "replace"))
            for known in self._digests:
                good |= hmac.compare_digest(known, digest)
        return good

    def _digest(self, key: bytes) -> bytes:
        return hmac.digest(self._salt, key, "sha256")

    def _refresh(self, now: float) -> None:
        if self._folder is None or now - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = now
        for last in (False, True):
            # A version of the Secret may be swapped for the next one while it is read.
            try:
                self._look(self._folder)
            except OSError as error:
                if last:
                    self._lose(self._folder, error)
            else:
                return

    def _lose(self, folder: Path, error: OSError) -> None:
        """Nothing can be read: nobody comes in."""
        if self._seen != ():
            _log.warning(
                "API keys in %s cannot be read, every client is refused: %s",
                folder,
                os.strerror(error.errno or 0),
            )
        self._digests, self._seen = (), ()

    def _look(self, folder: Path) -> None:
        """Read the keys if any file has changed. Raises OSError."""
        version = folder / _DATA
        root = (version if version.is_dir() else folder).resolve(strict=True)
        files = _files(root)
        if files == self._seen:
            return
        keys = [key for file in files if (key := _read(root / file.name)) is not None]
        self._seen = files
        self._digests = tuple(self._digest(key) for key in dict.fromkeys(keys))
        if keys:
            _log.info("%d API keys of %s are in use", len(self._digests), folder)
        else:
            _log.warning("there is no API key in %s: every client is refused", folder)


def _files(root: Path) -> tuple[_File, ...]:
    """The files of a folder by name. Raises OSError."""
    found = []
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.startswith(_HIDDEN) and entry.is_file():
                status = entry.stat()
                found.append(_File(entry.name, status.st_mtime_ns, status.st_ino, status.st_size))
    if len(found) > MAX_KEYS:
        _log.warning("%d API keys in %s, the first %d are used", len(found), root, MAX_KEYS)
    return tuple(sorted(found)[:MAX_KEYS])


def _read(path: Path) -> bytes | None:
    """The key in a file; None where it is none that a client could send or that is good enough.
    Raises OSError."""
    with path.open("rb") as file:
        key = file.read(2 * MAX_KEY_BYTES).strip()
    if len(key) < MIN_KEY_BYTES:
        problem = f"it is shorter than {MIN_KEY_BYTES} bytes"
    elif len(key) > MAX_KEY_BYTES:
        problem = f"it is longer than {MAX_KEY_BYTES} bytes"
    elif not all(0x21 <= byte <= 0x7E for byte in key):
        problem = "it has other characters than visible ASCII"
    else:
        return key
    _log.warning("the API key %s is ignored: %s", path.name, problem)
    return None
