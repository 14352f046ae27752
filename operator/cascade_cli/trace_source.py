"""Traffic from a trace, read once, in memory that does not grow with it."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from cascade_cli import traces
from cascade_cli.errors import BadInput
from cascade_cli.observed import Lengths, Observed, model_length, usable
from cascade_cli.tally import LengthCounts, TraceTally
from cascade_cli.traces import BadLine, TraceRequest

SHOWN_BAD_LINES: Final = 5
_BATCH: Final = 8192

Tell = Callable[[str], object]
"""Prints a line for the user, apart from the result."""


class BadLines:
    """Tells of the first bad lines and counts the others."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.count = 0

    def __call__(self, line: BadLine) -> None:
        self.count += 1
        if self.count <= SHOWN_BAD_LINES:
            self._tell(str(line))

    def finish(self) -> None:
        """Say how many were left out."""
        if self.count > SHOWN_BAD_LINES:
            self._tell(f"... and {self.count - SHOWN_BAD_LINES:,} more lines that are no requests")


def observe_trace(path: str, max_length: int | None, tell: Tell) -> Observed:
    """The traffic of the trace at `path`; requests longer than `max_length` are left out.

    Without `max_length` the longest request decides. Raises InvalidTrace, BadInput, NoTraffic.
    """
    name = traces.shown(path)
    bad_lines = BadLines(tell)
    tally, too_long = TraceTally(), 0
    with traces.opened(path) as raw, _progress(raw) as advance:
        rows = traces.requests(raw, name, bad_lines)
        while batch := list(islice(rows, _BATCH)):
            fitting = [row for row in batch if _fits(row, max_length)]
            too_long += len(batch) - len(fitting)
            if fitting:
                tally.add(fitting)
            advance()
    bad_lines.finish()
    if not tally.requests:
        raise BadInput(
            f"trace {name}: all {too_long:,} requests are longer than {max_length:,} tokens: "
            "raise --max-length"
        )
    return _observed(name, tally, max_length, _notes(bad_lines.count, too_long, tally, max_length))


def _fits(row: TraceRequest, max_length: int | None) -> bool:
    return max_length is None or row.prompt_tokens + row.output_tokens <= max_length


def _observed(
    name: str, tally: TraceTally, max_length: int | None, notes: tuple[str, ...]
) -> Observed:
    seconds = tally.seconds or None
    # Without times one request a second stands for the rate, which the user must give.
    traffic = tally.traffic(
        seconds or float(tally.requests), max_length or model_length(tally.finals.longest)
    )
    return Observed(
        kind="trace",
        name=name,
        traffic=usable(traffic, f"trace {name}"),
        requests=tally.requests,
        seconds=seconds,
        prompts=_lengths(tally.prompts),
        outputs=_lengths(tally.outputs),
        wholes=_lengths(tally.finals),
        notes=notes,
    )


def _lengths(counts: LengthCounts) -> Lengths:
    return Lengths(counts.mean, counts.quantile(0.50), counts.quantile(0.95))


def _notes(bad: int, too_long: int, tally: TraceTally, max_length: int | None) -> tuple[str, ...]:
    notes = []
    if bad:
        lines = "1 line is no request" if bad == 1 else f"{bad:,} lines are no requests"
        notes.append(f"{lines} and left out.")
    if too_long:
        are = "request is" if too_long == 1 else "requests are"
        notes.append(f"{too_long:,} {are} longer than {max_length:,} tokens and left out.")
    if tally.out_of_order:
        are = "line is" if tally.out_of_order == 1 else "lines are"
        notes.append(f"{tally.out_of_order:,} {are} out of order; times count, not the order.")
    return tuple(notes)


@contextmanager
def _progress(raw: BinaryIO) -> Iterator[Callable[[], object]]:
    """A bar on a terminal's standard error, by the bytes read; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    size = os.fstat(raw.fileno()).st_size if raw is not sys.stdin.buffer else None
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=size or None)
        yield lambda: progress.update(task, completed=raw.tell() if size else None)
