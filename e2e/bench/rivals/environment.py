"""The Python environment of the rivals, in the user's cache: made once for each set of packages."""

import fcntl
import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
LAST_LINES: Final = 8
"""Of pip's errors, shown to the user."""


class NotInstalled(Exception):
    """The packages could not be installed; the message says what to do."""


def install() -> Path:
    """The folder with the rivals' commands; installs them the first time. Raises NotInstalled."""
    venv = _cache() / "venv" / f"rivals-{_key()}"
    ready = venv / "ready"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            print(f"Setting up other projects' routers in {venv} (first time only)",
                  file=sys.stderr, flush=True)  # fmt: skip
            _run([sys.executable, "-m", "venv", "--clear", str(venv)])
            pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet"]
            options = ("--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes")
            _run([*pip, *options, "--requirement", str(REQUIREMENTS)])
            ready.touch()
    return venv / "bin"


def versions() -> dict[str, str]:
    """The rivals' packages and their versions, as they are pinned."""
    lines = REQUIREMENTS.with_suffix(".in").read_text(encoding="utf-8").splitlines()
    pinned = (line.split("==") for line in lines if "==" in line)
    return {name.strip(): version.strip() for name, version in pinned}


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).splitlines()[-LAST_LINES:])
        raise NotInstalled(
            f"{' '.join(command[:4])} ... ended with status {done.returncode}; the other routers "
            f"need {REQUIREMENTS.name} from a package index and a platform with wheels:\n{said}"
        )


def _key() -> str:
    known = REQUIREMENTS.read_bytes() + sys.version.encode() + sys.prefix.encode()
    return hashlib.sha256(known).hexdigest()[:16]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cascadeservice"
