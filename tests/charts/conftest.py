"""Gives the tests the chart with a real helm; without one they are skipped, with the reason."""

import shutil
from pathlib import Path

import pytest

from e2e.cluster.binaries import KUBERNETES, programs_folder
from e2e.cluster.errors import ClusterError
from e2e.cluster.progress import Progress
from tests.charts.chart import Chart


@pytest.fixture(scope="session")
def helm(say: Progress) -> Path:
    """The helm that belongs to the local cluster, so that its output is the same everywhere.

    Only a machine without Go, which cannot build it, uses the helm on PATH.
    """
    try:
        return programs_folder(KUBERNETES, say) / "helm"
    except ClusterError:
        if shutil.which("go") is not None:
            raise
    found = shutil.which("helm")
    if found is None:
        pytest.skip("no helm: install helm 3, or Go, with which it is built")
    return Path(found)


@pytest.fixture(scope="session")
def chart(helm: Path) -> Chart:
    return Chart(helm)
