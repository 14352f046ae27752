"""Work spread over processes, with an orderly end when the user interrupts it."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def default_jobs() -> int:
    """Processes that may run at once: the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_processes(
    work: Callable[[Item], Result], items: Sequence[Item], jobs: int
) -> Generator[tuple[int, Result], None, None]:
    """(position, work(item)) of every item, as they finish.

    `work` is a function of a module and `items` can be pickled: processes are spawned, not
    forked. With one job, all of it happens here. Closing the iterator, an error in `work` and
    Ctrl-C end the processes at once; what they had not finished is lost.
    """
    if jobs <= 1 or len(items) <= 1:
        yield from ((position, work(item)) for position, item in enumerate(items))
        return
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(min(jobs, len(items)), context, initializer=_leave_interrupts)
    try:
        positions = {pool.submit(work, item): position for position, item in enumerate(items)}
        for done in as_completed(positions):
            yield positions[done], done.result()
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; only the first one answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
