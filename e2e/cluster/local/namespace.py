"""The namespaces of one cluster: network, mounts, processes.

A pause process is their first process. Its end ends every process inside, and with the last one
the kernel drops the mounts, links, routes and packet filters that were made inside.
"""

import shlex
import time
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.local.layout import BRIDGE, NODE_NETWORK, Layout
from e2e.cluster.local.processes import Process, child_of, died, leader_of, processes_of, start
from e2e.cluster.shell import run

HOLDER = "namespaces"
WAIT_SECONDS = 10.0

PRIVATE_FOLDERS = (
    Path("/var/lib/cni"),
    Path("/var/lib/kubelet"),
    Path("/var/log/containers"),
)
"""Folders whose paths are fixed in containerd and kubelet; inside they lead to the state folder."""

KUBELET_SYSCTLS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What kubelet wants to find. It is shown files with these values, so that it finds nothing to
change on a machine that is not its own."""


def holder_command(layout: Layout) -> list[str]:
    """The command that makes the namespaces and holds them open."""
    return [
        "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "--propagation", "private", str(layout.programs / "pause"),
    ]  # fmt: skip


def entering(init: int, *, processes: bool = True) -> list[str]:
    """Command prefix that runs a program inside."""
    flags = ["--net", "--mount", "--pid"] if processes else ["--net", "--mount"]
    return ["nsenter", "--target", str(init), *flags, "--"]


def set_up_script(layout: Layout) -> str:
    """Shell commands that furnish the namespaces, to be run inside."""
    inside = shlex.quote(str(layout.inside))
    state = shlex.quote(str(layout.state))
    lines = [
        "mount --make-rshared /",
        "mount -t tmpfs -o mode=755,size=64m tmpfs /run",
        f"mkdir -p {inside}",
        f"mount --bind {state} {inside}",
    ]
    for folder in PRIVATE_FOLDERS:
        own = f"{inside}/private/{folder.name}"
        lines += [f"mkdir -p {own}", f"mount --bind {own} {folder}"]
    for name, value in KUBELET_SYSCTLS.items():
        own = f"{inside}/private/{name.replace('/', '.')}"
        lines += [f"echo {value} > {own}", f"mount --bind {own} /proc/sys/{name}"]
    lines += [
        "ip link set lo up",
        f"ip link add {BRIDGE} type bridge",
        f"ip address add {NODE_NETWORK} dev {BRIDGE}",
        f"ip link set {BRIDGE} up",
        # Service addresses want a route to be looked up before they are rewritten; this one
        # leads nowhere.
        f"ip route add default dev {BRIDGE}",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
    ]
    return "\n".join(lines)


def open_namespaces(layout: Layout) -> Process:
    """Make and furnish the namespaces; their first process."""
    made = [folder for folder in PRIVATE_FOLDERS if not folder.exists()]
    made_list(layout.state).write_text("".join(f"{folder}\n" for folder in made))
    for folder in made:
        folder.mkdir(parents=True)
    start(layout.state, HOLDER, holder_command(layout), {})
    init = _wait_for_init(layout)
    run(
        [*entering(init.pid), "sh", "-euc", set_up_script(layout)],
        doing="furnishing the cluster's namespaces",
        hint="This needs root with the right to mount and to make network links.",
    )
    return init


def made_list(state: Path) -> Path:
    """The list of folders on the host that were made as mount points."""
    return state / "made-folders"


def _wait_for_init(layout: Layout) -> Process:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        processes = processes_of(layout.state)
        init = child_of(processes, HOLDER)
        if init is not None and _runs(init, layout.programs / "pause"):
            return init
        if leader_of(processes, HOLDER) is None and time.monotonic() > deadline - WAIT_SECONDS + 1:
            raise died(layout.state, HOLDER)
        time.sleep(0.02)
    raise ClusterError(f"the cluster's namespaces were not made within {WAIT_SECONDS:.0f} s")


def _runs(process: Process, program: Path) -> bool:
    """Whether it has become that program: unshare mounts /proc just before it does."""
    try:
        return Path(f"/proc/{process.pid}/exe").resolve() == program.resolve()
    except OSError:
        return False
