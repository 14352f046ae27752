"""Which processes are a pod's."""

from pathlib import Path

import pytest

from e2e.cluster.local.pod_processes import processes_of_pod

POD, OTHER = "0f2c1c9e-aaaa", "0f2c1c9e-bbbb"


def add(proc: Path, pid: int, group: str, program: str) -> None:
    folder = proc / str(pid)
    folder.mkdir()
    (folder / "cgroup").write_text(f"0::/cascadeservice-1/kubepods/burstable{group}\n")
    (folder / "exe").symlink_to(program)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    add(tmp_path, 10, f"/pod{POD}/c1", "/usr/bin/python3")
    add(tmp_path, 11, f"/pod{POD}/c0", "/pause")
    add(tmp_path, 12, f"/pod{OTHER}/c2", "/usr/bin/python3")
    (tmp_path / "13").mkdir()
    (tmp_path / "meminfo").touch()
    return tmp_path


def test_the_containers_of_a_pod_are_found_without_what_holds_its_namespaces(proc: Path) -> None:
    assert processes_of_pod(POD, proc) == [10]
    assert processes_of_pod("0f2c1c9e", proc) == []
