"""Runs `cascade` as a shell would, and keeps what it says."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cascade_cli.main import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


Cascade = Callable[..., Said]


def runner(capsys: pytest.CaptureFixture[str]) -> Cascade:
    """A function: the words of a command line in, what the command said out."""

    def run(*words: object) -> Said:
        capsys.readouterr()
        try:
            status = main([str(word) for word in words])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run
