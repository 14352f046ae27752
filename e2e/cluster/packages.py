"""Debian packages: which are missing, and installing them without starting their services."""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.folders import locked
from e2e.cluster.progress import Progress
from e2e.cluster.shell import run

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_MARK = "# made for the time of one installation by e2e.cluster"
CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))

NODE_PROGRAMS = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "ip": "iproute2",
    "socat": "socat",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "openssl": "openssl",
}
IMAGE_PROGRAMS = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}
CERTIFICATE_PROGRAMS = {"openssl": "openssl"}


def missing_packages(
    programs: dict[str, str], which: Callable[[str], str | None] = shutil.which
) -> list[str]:
    """Packages to install so that all the programs (name to package) are there."""
    return sorted({package for program, package in programs.items() if which(program) is None})


def cni_folder() -> Path | None:
    """Where the container network plugins lie, if they are installed."""
    for folder in CNI_FOLDERS:
        if (folder / "ptp").exists() and (folder / "host-local").exists():
            return folder
    return None


def install(packages: Iterable[str], progress: Progress) -> None:
    """Install Debian packages; services in them are neither started nor left enabled.

    Raises ClusterError when that is not possible here.
    """
    wanted = sorted(packages)
    if not wanted:
        return
    command = f"apt-get install --no-install-recommends {' '.join(wanted)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise ClusterError(
            f"these packages are missing: {' '.join(wanted)}. Install them (on Debian or Ubuntu "
            f"as root: `{command}`) and run again."
        )
    progress(f"installing with apt-get: {' '.join(wanted)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    hint = "Look at apt's sources and the network, and run again."
    with locked("apt", progress), _no_service_starts():
        run(["apt-get", "update", "-qq"], doing="apt-get update", hint=hint, timeout=300)
        run(
            ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *wanted],
            doing=f"installing {' '.join(wanted)}",
            hint=hint,
            environment=quiet,
            timeout=600,
        )
        if "containerd" in wanted and shutil.which("systemctl"):
            run(
                ["systemctl", "disable", "containerd.service"],
                doing="keeping containerd from starting with the machine",
            )


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Have invoke-rc.d refuse to start services, unless the machine has a policy of its own."""
    ours = not POLICY.exists() or POLICY_MARK in POLICY.read_text()
    if ours:
        POLICY.write_text(f"#!/bin/sh\n{POLICY_MARK}\nexit 101\n")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
