"""When a killed component has let go of what it held."""

from pathlib import Path

import pytest

from e2e.cluster.local.processes import Process, has_ended

KILLED = Process(pid=41, parent=7, session=39, component="kube-apiserver")


@pytest.mark.parametrize(
    ("stat", "ended"),
    [
        pytest.param("41 (kube-apiserver) R 7 41 39 0", False, id="it dies, and holds its port"),
        pytest.param("41 (kube-apiserver) Z 7 41 39 0", True, id="nobody has asked how it ended"),
        pytest.param("41 (bash) S 1 41 41 0", True, id="another process has its number"),
        pytest.param(None, True, id="it is gone"),
    ],
)
def test_a_component_has_ended_when_it_holds_nothing(
    tmp_path: Path, stat: str | None, ended: bool
) -> None:
    if stat is not None:
        (tmp_path / "41").mkdir()
        (tmp_path / "41" / "stat").write_text(stat)
    assert has_ended(KILLED, tmp_path) is ended
