"""What processes have used, read from /proc: CPU time in nanoseconds, memory, open files."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """What a group of processes has used so far: nanoseconds on a processor by thread, and ticks
    in its own code and in the kernel."""

    threads: Mapping[int, int]
    user_ticks: int
    system_ticks: int

    def since(self, before: "CpuTime") -> tuple[float, float]:
        """(microseconds used, share of them in the kernel) since an earlier reading.

        The scheduler's nanoseconds tell how much, the ticks (10 ms) only how it divides. What a
        thread used that ended in between is not seen.
        """
        used = sum(ns - before.threads.get(thread, 0) for thread, ns in self.threads.items())
        user = self.user_ticks - before.user_ticks
        system = self.system_ticks - before.system_ticks
        return used / 1000, system / (user + system) if user + system else 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Megabytes (10^6) of a group of processes: resident, and resident with shared pages divided
    among those that share them."""

    rss_mb: float
    pss_mb: float


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all their descendants; those that are gone are left out."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if _stat(pid):
            found.append(pid)
            waiting.extend(children.get(pid, ()))
    return found


def cpu_time(pids: Iterable[int]) -> CpuTime:
    """CPU time of these processes so far."""
    threads: dict[int, int] = {}
    user = system = 0
    for pid in pids:
        for task in (PROC / str(pid) / "task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                threads[int(task.name)] = int((task / "schedstat").read_text().split()[0])
        fields = _stat(pid)
        user += int(fields[11])
        system += int(fields[12])
    return CpuTime(threads, user, system)


def memory(pids: Iterable[int]) -> Memory:
    """Memory of these processes."""
    kilobytes = {"Rss": 0, "Pss": 0}
    for pid in pids:
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in kilobytes:
                kilobytes[name] += int(value.split()[0])
    return Memory(kilobytes["Rss"] * 1024 / 1e6, kilobytes["Pss"] * 1024 / 1e6)


def open_files(pids: Iterable[int]) -> int:
    """Open files of these processes."""
    return sum(len(list((PROC / str(pid) / "fd").iterdir())) for pid in pids)


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on; none when it is gone."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
