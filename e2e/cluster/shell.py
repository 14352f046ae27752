"""Running other programs, with errors that a user can act on."""

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.errors import ClusterError

TAIL_LINES = 20


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines of a program's words, indented for an error message."""
    kept = [line for line in text.splitlines() if line.strip()][-lines:]
    return "\n".join(f"    {line}" for line in kept)


def run(
    command: Sequence[str | Path],
    *,
    doing: str,
    hint: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    timeout: float = 120.0,
    stdin: str | None = None,
) -> str:
    """Standard output of a program that must succeed.

    `doing` names the step for the user, as in "importing the images"; `hint` says what to do when
    it fails. `environment` is added to ours. Raises ClusterError with the program's last lines.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=folder,
            env=None if environment is None else {**os.environ, **environment},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise ClusterError(f"{doing} failed: {words[0]} is not installed. {hint}".strip()) from None
    except subprocess.TimeoutExpired:
        raise ClusterError(
            f"{doing} failed: no end after {timeout:.0f} s of `{shlex.join(words)}`. {hint}".strip()
        ) from None
    if done.returncode != 0:
        said = tail(done.stderr) or tail(done.stdout)
        raise ClusterError(
            f"{doing} failed (exit status {done.returncode} of `{shlex.join(words)}`):\n{said}"
            + (f"\n{hint}" if hint else "")
        )
    return done.stdout


def succeeds(command: Sequence[str | Path], *, timeout: float = 10.0) -> bool:
    """Whether a program ends with status 0 in time; what it says is dropped."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
