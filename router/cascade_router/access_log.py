"""One line of JSON on stdout for each request that has ended.

Written by a thread of its own, behind a bounded queue: a stdout that nobody reads costs lines,
which are counted, and never the event loop's time. The probes of the kubelet and of Prometheus have
no lines.
"""

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from typing import Final

import msgspec

from cascade_router.record import RequestRecord

STDOUT: Final = 1
MAX_LINES: Final = 4096
"""That wait to be written; a line is half a kilobyte."""
BATCH_LINES: Final = 128
CLOSE_SECONDS: Final = 1.0
"""How long the last lines may take when the router leaves."""

_log = logging.getLogger(__name__)


def line(record: RequestRecord, wall: float) -> bytes:
    """The line of a request that ended at Unix time `wall`."""
    member = record.member
    shown = {
        "time": _rfc3339(wall),
        "request_id": record.request_id,
        "client": record.client,
        "method": record.method,
        "path": record.path,
        "status": record.status,
        "outcome": record.outcome.value,
        "streamed": record.streamed,
        "stage": record.stage,
        "instance": None if member is None else member.name,
        "instance_stage": None if member is None else member.stage,
        "legs": record.leg_count,
        "handovers": record.handovers,
        "rescues": record.rescues,
        "pinned": None if record.pin is None else record.pin.value,
        "prompt_tokens": record.prompt_tokens,
        "prompt_estimated": record.prompt_estimated,
        "output_tokens": record.output_tokens,
        "cached_tokens": record.cached_tokens,
        "wait_seconds": _rounded(record.waited),
        "ttft_seconds": _rounded(record.ttft),
        "tpot_seconds": _rounded(record.tpot),
        "duration_seconds": _rounded(record.duration),
    }
    return msgspec.json.encode(shown) + b"\n"


def _rfc3339(wall: float) -> str:
    moment = datetime.fromtimestamp(wall, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 6)


class AccessLog:
    """The writer of all lines to one file descriptor. `dropped` is called for each lost line."""

    def __init__(self, file: int, dropped: Callable[[], None], max_lines: int) -> None:
        self._file = file
        self._dropped = dropped
        self._max_lines = max_lines
        self._lines: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Lines that are not taken up yet."""
        return self._lines.qsize()

    def write(self, record: RequestRecord) -> None:
        """Write the line of a request that has just ended, or drop it; at once in either case."""
        if self._lines.qsize() >= self._max_lines:
            self._dropped()
        else:
            self._lines.put(line(record, time.time()))

    def close(self) -> None:
        """Write what is left, for a moment."""
        self._lines.put(None)
        self._thread.join(CLOSE_SECONDS)

    # The thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
            batch = [self._lines.get()]
            with contextlib.suppress(Empty):
                while len(batch) < BATCH_LINES:
                    batch.append(self._lines.get_nowait())
            more = None not in batch
            try:
                self._write(b"".join(text for text in batch if text is not None))
            except OSError as error:
                _log.error("the access log ends: stdout: %s", os.strerror(error.errno or 0))
                return

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._file, view) :]
            except BlockingIOError:
                select.select([], [self._file], [])
