"""The programs of the local cluster, built from the Go modules that `go/` pins.

Each set of programs is one `go build` of one module, because the programs share most of their
packages, and lies in the cache under a key of everything that went into it.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError
from e2e.cluster.folders import cache_folder, locked, replacing
from e2e.cluster.progress import Progress
from e2e.cluster.shell import tail

SOURCES = Path(__file__).resolve().parent / "go"
KUBERNETES_VERSION = "v1.34.4"
PROMETHEUS_VERSION = "v3.12.0"
REPORT_SECONDS = 30.0


@dataclass(frozen=True)
class GoPrograms:
    """Programs built by one `go build`.

    `packages` maps a program's name to its Go package, seen from `module`, a folder under
    SOURCES. `sources` are the files and folders under `module` that the build reads.
    """

    name: str
    version: str
    module: str
    packages: tuple[tuple[str, str], ...]
    sources: tuple[str, ...]
    link_values: tuple[tuple[str, str], ...]
    tags: str = ""
    about: str = ""


def _kubernetes_version_values() -> tuple[tuple[str, str], ...]:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = (("gitVersion", KUBERNETES_VERSION), ("gitMajor", major), ("gitMinor", minor))
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return tuple((f"{package}.{key}", value) for package in packages for key, value in values)


KUBERNETES = GoPrograms(
    name="kubernetes",
    version=KUBERNETES_VERSION,
    module=".",
    packages=(
        ("etcd", "go.etcd.io/etcd/server/v3"),
        ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
        ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
        ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
        ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
        ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ("helm", "helm.sh/helm/v3/cmd/helm"),
        ("coredns", "./coredns"),
        ("pause", "./pause"),
    ),
    sources=("go.mod", "go.sum", "tools.go", "coredns", "pause"),
    link_values=_kubernetes_version_values(),
    about="Kubernetes, etcd, CoreDNS and helm",
)
PROMETHEUS = GoPrograms(
    name="prometheus",
    version=PROMETHEUS_VERSION,
    module="prometheus",
    packages=(("prometheus", "github.com/prometheus/prometheus/cmd/prometheus"),),
    sources=("go.mod", "go.sum", "tools.go"),
    link_values=(
        ("github.com/prometheus/common/version.Version", PROMETHEUS_VERSION.removeprefix("v")),
    ),
    tags="remove_all_sd,enable_kubernetes_sd",
    about="Prometheus with Kubernetes service discovery alone",
)
KIND = GoPrograms(
    name="kind",
    version="v0.33.0",
    module="kind",
    packages=(("kind", "sigs.k8s.io/kind"),),
    sources=("go.mod", "go.sum", "tools.go"),
    link_values=(),
    about="kind",
)
CLIENTS = GoPrograms(
    name="clients",
    version=KUBERNETES_VERSION,
    module=".",
    packages=tuple(pair for pair in KUBERNETES.packages if pair[0] in ("kubectl", "helm")),
    sources=KUBERNETES.sources,
    link_values=KUBERNETES.link_values,
    about="kubectl and helm",
)


def cache_key(programs: GoPrograms, machine: str) -> str:
    """Names one build: its version, and a digest of the sources and settings behind it."""
    digest = hashlib.sha256(f"{programs!r} {machine}".encode())
    module = SOURCES / programs.module
    for source in programs.sources:
        root = module / source
        for path in sorted(root.rglob("*.go")) if root.is_dir() else [root]:
            digest.update(f"\0{path.relative_to(module)}\0".encode() + path.read_bytes())
    return f"{programs.name}-{programs.version}-{digest.hexdigest()[:12]}"


def is_built(programs: GoPrograms) -> bool:
    """Whether the programs lie in the cache."""
    return folder_of(programs).exists()


def folder_of(programs: GoPrograms) -> Path:
    """Where the programs lie once they are built."""
    return cache_folder() / "bin" / cache_key(programs, platform.machine())


def programs_folder(programs: GoPrograms, progress: Progress) -> Path:
    """The folder that holds the built programs; builds them the first time.

    Raises ClusterError when Go is missing or the build fails.
    """
    folder = folder_of(programs)
    if folder.exists():
        return folder
    with locked(f"build-{programs.name}", progress):
        if not folder.exists():
            with replacing(folder) as work:
                _build(programs, work, progress)
    return folder


def _build(programs: GoPrograms, target: Path, progress: Progress) -> None:
    """Run `go build` into `target` and give the programs their names."""
    go = shutil.which("go")
    if go is None:
        raise ClusterError(
            f"cannot build {programs.about}: Go is not installed. Install Go 1.25 or newer "
            "(https://go.dev/dl) and put its bin folder into PATH."
        )
    names = ", ".join(name for name, _ in programs.packages)
    progress(f"building {names} (first time only, kept in {target.parent})")
    values = " ".join(f"-X {key}={value}" for key, value in programs.link_values)
    command = [
        go, "build", "-v", "-trimpath", "-tags", programs.tags,
        "-gcflags=all=-dwarf=false", "-ldflags", f"-s -w {values}",
        "-o", f"{target}/", *(package for _, package in programs.packages),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "GOWORK": "off",
        # The compiler's processes are short: a fifth less CPU for some more memory.
        "GOGC": os.environ.get("GOGC", "300"),
    }
    started = time.monotonic()
    _compile(command, SOURCES / programs.module, environment, programs, progress)
    for name, package in programs.packages:
        built = target / _program_of(package)
        if built.name != name:
            built.rename(target / name)
    progress(f"built {programs.about} in {time.monotonic() - started:.0f} s")


def _program_of(package: str) -> str:
    """The file name that `go build` gives a package: its last element that is no version."""
    parts = package.split("/")
    is_version = parts[-1].startswith("v") and parts[-1][1:].isdigit()
    return parts[-2] if is_version else parts[-1]


def _compile(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    programs: GoPrograms,
    progress: Progress,
) -> None:
    """Run the compiler, telling now and then how many packages it has done."""
    ended = threading.Event()
    counted = 0

    def report() -> None:
        while not ended.wait(REPORT_SECONDS):
            progress(f"{programs.about}: {counted} packages compiled so far")

    said: deque[str] = deque(maxlen=200)
    reporter = threading.Thread(target=report, daemon=True)
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as compiler:
        assert compiler.stdout is not None
        reporter.start()
        try:
            for line in compiler.stdout:
                said.append(line)
                counted += not line.startswith("go: ")
            status = compiler.wait()
        finally:
            ended.set()
            reporter.join()
            compiler.kill()
    if status != 0:
        raise ClusterError(
            f"building {programs.about} failed (`go build` in {folder}):\n{tail(''.join(said))}\n"
            "Check that Go is 1.25 or newer, that the Go module proxy can be reached "
            "(`go env GOPROXY`) and that the disk is not full, then run again."
        )
