"""When a killed component has let go of what it held."""

from pathlib import Path

import pytest

from e2e.cluster.local.processes import Process, has_ended

KILLED = Process(pid=41, parent=7, session=39, component="kube-apiserver")


STAT = "41 (kube-apiserver) {} 7 41 {} 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 {} 0 9000 0 0"


@pytest.mark.parametrize(
    ("stat", "ended"),
    [
        pytest.param(STAT.format("R", 39, 12), False, id="it dies, and holds its port"),
        pytest.param(STAT.format("Z", 39, 2), False, id="a last thread of it holds its port"),
        pytest.param(STAT.format("Z", 39, 1), True, id="nobody has asked how it ended"),
        pytest.param(STAT.format("S", 41, 1), True, id="another process has its number"),
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
