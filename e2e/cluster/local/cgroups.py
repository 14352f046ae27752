"""The control group under which kubelet puts the pods."""

import contextlib
import os
import time
from pathlib import Path

from e2e.cluster.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
WAIT_SECONDS = 30.0


def hierarchies(root: Path = ROOT) -> list[Path]:
    """Where control groups can be made: one place in version 2, one a controller in version 1."""
    if (root / "cgroup.controllers").exists():
        return [root]
    return sorted({folder.resolve() for folder in root.iterdir() if _is_cgroup(folder)})


def make(name: str, root: Path = ROOT) -> None:
    """Make the group in every hierarchy, with the controllers that kubelet asks for."""
    for hierarchy in hierarchies(root):
        switch = hierarchy / "cgroup.subtree_control"
        if switch.exists():
            for controller in CONTROLLERS:
                with contextlib.suppress(OSError):  # unknown here, or enabled already
                    switch.write_text(f"+{controller}")
        (hierarchy / name).mkdir(exist_ok=True)


def remove(name: str, root: Path = ROOT) -> None:
    """Remove the group and all below it; its last processes may be on their way out.

    Raises ClusterError when one stays.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    for hierarchy in hierarchies(root):
        for folder, _, _ in os.walk(hierarchy / name, topdown=False):
            _remove_group(Path(folder), deadline)


def _remove_group(folder: Path, deadline: float) -> None:
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the control group {folder} cannot be removed: {error}. "
                    "Its cgroup.procs says who is in it."
                ) from error
            time.sleep(0.05)
        else:
            return


def _is_cgroup(folder: Path) -> bool:
    return (folder / "cgroup.procs").exists()
