"""What a user sees while a cluster is made."""

import sys
import time
from collections.abc import Callable

Progress = Callable[[str], None]
"""Takes one line for the user. May be called from several threads."""


class Stopwatch:
    """Prints lines behind the seconds since it was made: `[  34 s] building etcd`."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, line: str) -> None:
        elapsed = time.monotonic() - self._started
        sys.stderr.write(f"[{elapsed:4.0f} s] {line}\n")
        sys.stderr.flush()
