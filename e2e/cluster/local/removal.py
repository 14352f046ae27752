"""Taking a local cluster away, whole or in pieces, whatever state it was left in."""

import contextlib
import shutil
import subprocess
import time
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.local import cgroups
from e2e.cluster.local.namespace import made_list
from e2e.cluster.local.processes import kill, processes_of

WAIT_SECONDS = 30.0


def remove(state: Path, cgroup: str, *, keep_logs: bool = False) -> None:
    """End every process of the cluster and remove what it left on the machine.

    Raises ClusterError when something resists.
    """
    _end_processes(state)
    for mount in mounts_below(state, Path("/proc/self/mountinfo").read_text()):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    cgroups.remove(cgroup)
    _remove_made_folders(state)
    if not state.exists():
        return
    for entry in state.iterdir():
        if keep_logs and entry.name == "logs":
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    if not keep_logs:
        state.rmdir()
        with contextlib.suppress(OSError):  # another cluster's folder may lie beside it
            state.parent.rmdir()


def mounts_below(folder: Path, mountinfo: str) -> list[str]:
    """Mount points under a folder, deepest first, from the content of /proc/self/mountinfo."""
    points = [_unescaped(line.split()[4]) for line in mountinfo.splitlines() if line]
    below = [point for point in points if Path(point).is_relative_to(folder)]
    return sorted(below, key=len, reverse=True)


def _unescaped(point: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        point = point.replace(code, character)
    return point


def _end_processes(state: Path) -> None:
    """SIGKILL all marked processes, until none is left; pods end with their namespace."""
    deadline = time.monotonic() + WAIT_SECONDS
    while processes := processes_of(state):
        if time.monotonic() > deadline:
            names = ", ".join(f"{process.component} ({process.pid})" for process in processes)
            raise ClusterError(
                f"these processes do not end: {names}. They wait for the kernel, often for a "
                "disk; run `python -m e2e.cluster down` again."
            )
        for process in processes:
            kill(process)
        time.sleep(0.05)


def _remove_made_folders(state: Path) -> None:
    """Remove the mount points that were made on the host, where they are still empty."""
    record = made_list(state)
    if record.exists():
        for line in record.read_text().splitlines():
            with contextlib.suppress(OSError):
                Path(line).rmdir()
