"""What goes into an image, and the name that follows from it.

An image's inputs are its Dockerfile and whatever its COPY lines name. Equal inputs give an equal
tag, so an image is built once for each state of its sources.
"""

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError

IGNORED_FOLDERS = {"__pycache__"}
IGNORED_SUFFIXES = {".pyc"}


@dataclass(frozen=True)
class ProjectImage:
    """An image that users build with `docker build -f DOCKERFILE .` in the repository's root."""

    role: str
    dockerfile: str

    @property
    def name(self) -> str:
        """The image's name without registry and tag."""
        return f"cascade-{self.role}"


PROJECT_IMAGES = (
    ProjectImage("operator", "operator/Dockerfile"),
    ProjectImage("router", "router/Dockerfile"),
    ProjectImage("engine-simulator", "e2e/engine_simulator/Dockerfile"),
)


def copied_sources(dockerfile: str) -> list[str]:
    """Paths that COPY and ADD lines take from the build context, in their order.

    Copies between build stages are left out. Raises ClusterError for the JSON form and for
    wildcards: the tag could not be told from the file.
    """
    sources = []
    for line in _logical_lines(dockerfile):
        words = shlex.split(line, comments=False)
        if not words or words[0].upper() not in ("COPY", "ADD"):
            continue
        flags = [word for word in words[1:] if word.startswith("--")]
        if any(flag.startswith("--from=") for flag in flags):
            continue
        taken = words[1 + len(flags) : -1]
        if not taken or any(set(path) & set("*?[$") for path in taken):
            raise ClusterError(f"cannot tell which files this line of a Dockerfile takes: {line}")
        sources += taken
    return sources


def _logical_lines(dockerfile: str) -> Iterator[str]:
    """Lines with continuations joined and comments dropped."""
    joined = ""
    for line in dockerfile.splitlines():
        if line.lstrip().startswith("#"):
            continue
        joined += line.removesuffix("\\")
        if not line.endswith("\\"):
            yield joined.strip()
            joined = ""
    if joined:
        yield joined.strip()


def tag_of(image: ProjectImage, root: Path, base: str) -> str:
    """A tag that names the state of an image's inputs under `root`, and the base they stand on.

    Raises ClusterError when an input is missing.
    """
    dockerfile = root / image.dockerfile
    if not dockerfile.exists():
        raise ClusterError(f"{dockerfile} is missing: this is not a whole checkout")
    content = dockerfile.read_text()
    digest = hashlib.sha256(f"{base}\0{content}".encode())
    for source in copied_sources(content):
        path = root / source
        if not path.exists():
            raise ClusterError(f"{image.dockerfile} copies {source}, which is missing in {root}")
        for file in sorted(_files(path)):
            executable = bool(file.stat().st_mode & 0o100)
            digest.update(f"\0{file.relative_to(root)}\0{executable}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for entry in path.iterdir():
        if entry.is_dir():
            if entry.name not in IGNORED_FOLDERS:
                yield from _files(entry)
        elif entry.suffix not in IGNORED_SUFFIXES:
            yield entry
