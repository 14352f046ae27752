"""What a router asks of its operating system before it serves."""

import contextlib
import ctypes
import resource
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Parameters of glibc's mallopt(3)."""
_THRESHOLD_BYTES: Final = 64 * 1024


def allow_many_files() -> None:
    """A socket per stream and side: take what the hard limit gives."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def return_memory() -> None:
    """Have large buffers given back to the system when they are freed.

    glibc raises these thresholds by itself after the first large buffer, and then keeps what a
    burst took: a process with 1,000 streams stays at half as much again as it uses. Other C
    libraries have no such thresholds.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _THRESHOLD_BYTES)
