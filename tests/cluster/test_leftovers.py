"""What is recognised as a cluster's own, and nothing else is."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.local import cgroups
from e2e.cluster.local.processes import (
    CLUSTER_MARK,
    COMPONENT_MARK,
    Process,
    child_of,
    kill,
    leader_of,
    parse_environment,
    parse_stat,
    processes_of,
)
from e2e.cluster.local.removal import mounts_below, remove

STAT = "42 ({}) S 7 40 39 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 9000 0 0"


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_process_may_have_any_name(name: str) -> None:
    assert parse_stat(STAT.format(name)) == ("S", 7, 39)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", {}),
        (b"A=1\0B=2=3\0", {"A": "1", "B": "2=3"}),
        (b"A=\0odd\0", {"A": "", "odd": ""}),
        (b"A=\xff\0", {"A": os.fsdecode(b"\xff")}),
    ],
    ids=["empty", "a value may hold an equals sign", "no value", "any bytes"],
)
def test_environment(content: bytes, wanted: dict[str, str]) -> None:
    assert parse_environment(content) == wanted


def test_a_component_is_the_child_of_the_process_we_started() -> None:
    processes = [
        Process(pid=10, parent=1, session=10, component="containerd"),
        Process(pid=11, parent=10, session=10, component="containerd"),
        Process(pid=12, parent=9, session=10, component="containerd"),  # a shim it left behind
        Process(pid=20, parent=1, session=20, component="kubelet"),
    ]

    assert leader_of(processes, "containerd") == processes[0]
    assert child_of(processes, "containerd") == processes[1]
    assert child_of(processes, "kubelet") is None
    assert leader_of(processes, "etcd") is None


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with the mark of a cluster in tmp_path / "cluster"."""
    mark = {CLUSTER_MARK: str(tmp_path / "cluster"), COMPONENT_MARK: "etcd"}
    process = subprocess.Popen(["sleep", "600"], env={**os.environ, **mark}, start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_a_marked_process_is_found_and_ended(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    (found,) = processes_of(tmp_path / "cluster")
    assert (found.pid, found.component, found.is_leader) == (sleeper.pid, "etcd", True)

    kill(found)
    sleeper.wait()

    assert processes_of(tmp_path / "cluster") == []
    kill(found)  # once more does no harm


def test_another_cluster_s_process_is_not_ours(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    assert sleeper.poll() is None
    assert processes_of(tmp_path / "cluster2") == []


def test_removal_ends_processes_and_leaves_no_file(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    state = tmp_path / "cluster"
    (state / "config" / "deep").mkdir(parents=True)
    (state / "api.sock").touch()
    point = tmp_path / "mount-point"
    point.mkdir()
    (state / "made-folders").write_text(f"{point}\n")

    remove(state, "cascadeservice-of-no-cluster")

    assert sleeper.wait() != 0
    assert not state.exists()
    assert not point.exists()


def test_removal_after_a_failed_start_keeps_the_logs(tmp_path: Path) -> None:
    state = tmp_path / "cluster"
    (state / "logs").mkdir(parents=True)
    (state / "logs" / "etcd.log").write_text("why\n")
    (state / "etcd").mkdir()

    remove(state, "cascadeservice-of-no-cluster", keep_logs=True)

    assert [path.name for path in state.iterdir()] == ["logs"]


MOUNTS = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:40 / /state/cluster rw - tmpfs tmpfs rw
31 30 0:41 / /state/cluster/pods/with\\040space rw - tmpfs tmpfs rw
32 27 0:42 / /state/cluster-of-another rw - tmpfs tmpfs rw
"""


def test_mounts_below_a_folder_come_deepest_first() -> None:
    assert mounts_below(Path("/state/cluster"), MOUNTS) == [
        "/state/cluster/pods/with space",
        "/state/cluster",
    ]


def test_control_groups_of_version_1_are_made_in_each_hierarchy(tmp_path: Path) -> None:
    for controller in ("cpu", "memory"):
        (tmp_path / controller).mkdir()
        (tmp_path / controller / "cgroup.procs").touch()
    (tmp_path / "not-a-hierarchy").mkdir()

    cgroups.make("ours", tmp_path)

    assert sorted(path.parent.name for path in tmp_path.glob("*/ours")) == ["cpu", "memory"]


def test_control_groups_are_removed_with_all_below(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").touch()
    cgroups.make("ours", tmp_path)
    (tmp_path / "ours" / "kubepods" / "pod1").mkdir(parents=True)

    cgroups.remove("ours", tmp_path)

    assert not (tmp_path / "ours").exists()
