"""Python environments of other projects' packages, in the user's cache: made once for each set."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LAST_LINES: Final = 8
"""Of pip's errors, shown to the user."""


class NotInstalled(Exception):
    """The packages could not be installed; the message says what to do."""


@dataclass(frozen=True)
class PackageSet:
    """Packages that run beside the project. `folder` holds their `requirements.in` and `.txt`;
    `what` is what they are to a user."""

    name: str
    what: str
    folder: Path
    options: Sequence[str] = ()
    """More of pip's."""
    finish: Callable[[Path], None] | None = None
    """A last change to the environment, before it counts as ready."""

    def install(self) -> Path:
        """The environment; installs the packages the first time. Raises NotInstalled."""
        venv = self.place()
        ready = venv / "ready"
        venv.parent.mkdir(parents=True, exist_ok=True)
        with venv.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not ready.exists():
                print(f"Setting up {self.what} in {venv} (first time only)",
                      file=sys.stderr, flush=True)  # fmt: skip
                self._fill(venv)
                ready.touch()
        return venv

    def place(self) -> Path:
        """Where the environment is, or will be."""
        # Made from another environment's Python, it is one of the same installation.
        known = self._requirements.read_bytes() + sys.version.encode() + sys.base_prefix.encode()
        key = hashlib.sha256(known).hexdigest()[:16]
        return _cache() / "venv" / f"{self.name}-{key}"

    def versions(self) -> dict[str, str]:
        """The packages that are wanted and their versions, as they are pinned."""
        listed = (self.folder / "requirements.in").read_text(encoding="utf-8").splitlines()
        pinned = (line.split("==") for line in listed if "==" in line)
        return {name.strip(): version.strip() for name, version in pinned}

    @property
    def _requirements(self) -> Path:
        return self.folder / "requirements.txt"

    def _fill(self, venv: Path) -> None:
        self.run([sys.executable, "-m", "venv", "--clear", str(venv)])
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        options = ("--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes")
        self.run([*pip, *options, *self.options, "--requirement", str(self._requirements)])
        if self.finish is not None:
            self.finish(venv)

    def run(self, command: Sequence[str]) -> None:
        """A step of the set-up. Raises NotInstalled."""
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).splitlines()[-LAST_LINES:])
            raise NotInstalled(
                f"{' '.join(command[:4])} ... ended with status {done.returncode}; {self.what} "
                f"need {self._requirements.name} from a package index and a platform with wheels:"
                f"\n{said}"
            )


RIVALS: Final = PackageSet("rivals", "the other routers", Path(__file__).parent)


def install() -> Path:
    """The folder with the rivals' commands; installs them the first time. Raises NotInstalled."""
    return RIVALS.install() / "bin"


def versions() -> dict[str, str]:
    """The rivals' packages and their versions, as they are pinned."""
    return RIVALS.versions()


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cascadeservice"
