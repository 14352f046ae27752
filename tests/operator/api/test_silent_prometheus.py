"""A Prometheus that takes connections and never answers holds up nothing but plans."""

import re
import socket
from pathlib import Path

import pytest

from cascade_operator.conditions import METRICS_AVAILABLE
from cascade_operator.reasons import Reason
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import settled
from tests.operator.api.told import told

pytestmark = pytest.mark.api_server

LONGEST_PASS_SECONDS = 2.5
"""Half of what a reading waits for the first byte: a pass that waited for one is told apart."""


async def test_instances_are_placed_while_prometheus_is_silent(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with (
            kubelet(server, kubectl.namespace),
            operator(
                server,
                kubectl.namespace,
                tmp_path,
                CASCADE_PROMETHEUS_URL=url,
                CASCADE_LOG_LEVEL="DEBUG",
            ) as running,
        ):
            planning = {"intervalSeconds": 5}
            assert kubectl.apply(manifest(kubectl, gpuCount=2, planning=planning)).returncode == 0
            await until("settled", lambda: settled(kubectl, 2))
            kubectl("scale", "csvc", "demo", "--replicas=4")
            await until("four instances", lambda: settled(kubectl, 4))
            await told(kubectl, METRICS_AVAILABLE, False, Reason.PROMETHEUS_UNREACHABLE)
            log = running.log.read_text()
    passes = [float(took) for took in re.findall(r"a pass of \S+ took ([0-9.]+) s", log)]
    assert passes
    assert max(passes) < LONGEST_PASS_SECONDS
