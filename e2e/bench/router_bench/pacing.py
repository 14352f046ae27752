"""All open streams of the bench's engine, and the pace at which they go on."""

import asyncio
import ctypes
import itertools
import os
import struct
from collections.abc import Callable
from typing import Final

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.answers import Stream

MOST_BEHIND: Final = 1024
"""Events that are made up for at once when the engine is late; what is beyond is left out, so that
an engine at its limit still hears."""

_CLOCK_MONOTONIC: Final = 1
_NONBLOCK_CLOEXEC: Final = 0o2004000


class Engine:
    """All open streams, and the pace at which they go on."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.streams: dict[Stream, None] = {}
        self.ended_events = 0
        self.streams_with_ids = 0
        """Of all that began."""
        self._loop = loop
        self._numbers = itertools.count()
        self._timer = _Timer()
        self._ring: list[Stream] = []
        self._changed = False
        self._next = 0
        self._tick: Callable[[], None] = self._step
        self._most_ticks = 1

    def identity(self) -> bytes:
        """The id of a new answer."""
        return b"cmpl-%032x" % next(self._numbers)

    def pace(self, mode: str, gap: float) -> None:
        """Go on from here: `gap` seconds between two events of a stream."""
        self._loop.remove_reader(self._timer.fd)
        if mode == wire.NO_PACE:
            self._timer.set(0)
            return
        step = mode == wire.STEP
        self._tick = self._step if step else self._spread
        streams = max(1, len(self.streams))
        self._most_ticks = max(1, MOST_BEHIND // (streams if step else 1))
        self._timer.set(gap if step else gap / streams)
        self._loop.add_reader(self._timer.fd, self._on_timer)

    def finish(self) -> int:
        """End all streams; how many events were sent in all."""
        self.pace(wire.NO_PACE, 0)
        for stream in list(self.streams):
            stream.end(b'"stop"')
        return self.ended_events

    def close(self) -> None:
        """Stop the clock for good."""
        self.pace(wire.NO_PACE, 0)
        os.close(self._timer.fd)

    def add(self, stream: Stream) -> None:
        """A stream begins."""
        self.streams[stream] = None
        self.streams_with_ids += stream.with_ids
        self._changed = True

    def remove(self, stream: Stream) -> None:
        """A stream has ended or its client is gone."""
        del self.streams[stream]
        self._changed = True
        self.ended_events += stream.sent

    def _on_timer(self) -> None:
        for _ in range(min(self._timer.expirations(), self._most_ticks)):
            if self._changed:
                self._ring, self._changed = list(self.streams), False
            self._tick()

    def _step(self) -> None:
        for stream in self._ring:
            stream.step()

    def _spread(self) -> None:
        if self._ring:
            self._next = (self._next + 1) % len(self._ring)
            self._ring[self._next].step()


class _Timer:
    """A timer of the kernel as a file: exact to microseconds, and it counts what was missed."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, seconds: float) -> None:
        """Expire every `seconds`; 0 stops."""
        whole, part = divmod(round(seconds * 1e9), 1_000_000_000)
        value = struct.pack("llll", whole, part, whole, part)
        if self._libc.timerfd_settime(self.fd, 0, value, None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def expirations(self) -> int:
        """How often it expired since it was asked last."""
        try:
            return int.from_bytes(os.read(self.fd, 8), "little")
        except BlockingIOError:
            return 0
