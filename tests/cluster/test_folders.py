"""Folders of the cache appear whole or not at all, and one run waits for another."""

import subprocess
import sys
from pathlib import Path

import pytest

from e2e.cluster.folders import REPOSITORY, cache_folder, locked, replacing, state_folder


def test_a_folder_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "bin"
    with replacing(target) as work:
        (work / "program").write_text("new")
        assert not target.exists()

    assert (target / "program").read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "bin"
    target.mkdir()
    (target / "program").write_text("old")

    def fail() -> None:
        with replacing(target) as work:
            (work / "program").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert (target / "program").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


HOLDER = """
import sys
from e2e.cluster.folders import locked
with locked("test"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_waits_for_another_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        said: list[str] = []

        def release(line: str) -> None:
            said.append(line)
            assert other.stdin is not None
            other.stdin.close()

        with locked("test", release):
            assert other.wait() == 0
    assert len(said) == 1
    assert "waiting for another run" in said[0]


def test_the_user_s_folders_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    assert cache_folder() == tmp_path / "cache" / "cascadeservice"
    assert state_folder() == tmp_path / "state" / "cascadeservice" / "cluster"
