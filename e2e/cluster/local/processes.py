"""The processes of one cluster: marked in their environment, found in /proc, started, ended.

No file of process ids is kept, so none can be wrong: a process belongs to the cluster exactly if
its environment names the cluster's state folder, whatever was killed in between.
"""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.shell import tail

CLUSTER_MARK = "CASCADE_LOCAL_CLUSTER"
_THREADS = 17
"""Where the number of threads stands in /proc/PID/stat, counted from the state on."""
COMPONENT_MARK = "CASCADE_LOCAL_COMPONENT"


@dataclass(frozen=True)
class Process:
    """One process as /proc shows it; ids as this process namespace counts them."""

    pid: int
    parent: int
    session: int
    component: str

    @property
    def is_leader(self) -> bool:
        """Whether we started it ourselves: each component has a session of its own."""
        return self.pid == self.session


def parse_environment(content: bytes) -> dict[str, str]:
    """The content of /proc/PID/environ."""
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def parse_stat(content: str) -> tuple[str, int, int]:
    """State letter, parent and session out of /proc/PID/stat; the name in it may hold anything."""
    fields = content.rpartition(")")[2].split()
    return fields[0], int(fields[1]), int(fields[3])


def processes_of(state: Path, proc: Path = Path("/proc")) -> list[Process]:
    """All living processes that carry the cluster's mark."""
    found = []
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            environment = parse_environment((entry / "environ").read_bytes())
            if environment.get(CLUSTER_MARK) != str(state):
                continue
            letter, parent, session = parse_stat((entry / "stat").read_text())
        except OSError:
            continue  # it ended meanwhile, or belongs to the kernel
        if letter not in "ZX":
            component = environment.get(COMPONENT_MARK, "")
            found.append(Process(int(entry.name), parent, session, component))
    return found


def has_ended(process: Process, proc: Path = Path("/proc")) -> bool:
    """Whether it holds nothing any more, such as a port.

    A process that dies loses its environment, by which `processes_of` knows it, before its sockets,
    and these go with its last thread: the first one is a zombie by then.
    """
    try:
        content = (proc / str(process.pid) / "stat").read_text()
    except OSError:
        return True
    letter, _, session = parse_stat(content)
    threads = int(content.rpartition(")")[2].split()[_THREADS])
    return session != process.session or (letter in "ZX" and threads <= 1)


def leader_of(processes: Sequence[Process], component: str) -> Process | None:
    """The process we started for a component, if it lives."""
    for process in processes:
        if process.is_leader and process.component == component:
            return process
    return None


def child_of(processes: Sequence[Process], component: str) -> Process | None:
    """The component itself, where it runs in a process namespace: the child of its nsenter."""
    leader = leader_of(processes, component)
    if leader is None:
        return None
    return next((process for process in processes if process.parent == leader.pid), None)


def start(
    state: Path, component: str, command: Sequence[str], environment: Mapping[str, str]
) -> None:
    """Start a component in a session of its own, its words appended to its log.

    setsid forks, so that nobody here has to wait for the component's end.
    """
    logs = state / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{component}.log").open("ab") as log:
        done = subprocess.run(
            ["setsid", "--fork", *command],
            cwd=state,
            env={
                **os.environ,
                **environment,
                CLUSTER_MARK: str(state),
                COMPONENT_MARK: component,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        raise died(state, component)


def died(state: Path, component: str) -> ClusterError:
    """The error for a component that ended by itself."""
    log = state / "logs" / f"{component}.log"
    words = tail(log.read_text(errors="replace")) if log.exists() else "    (no log)"
    return ClusterError(
        f"{component} ended by itself. Its last words ({log}):\n{words}\n"
        "Run `python -m e2e.cluster down` and `up` again; if it ends again, the lines above say "
        "what this machine lacks."
    )


def kill(process: Process, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal; a process that has ended is fine."""
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return
