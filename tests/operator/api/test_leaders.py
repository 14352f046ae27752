"""Operators and one Lease, against a real API server."""

import json
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, Operator, kubelet, operator, until
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods, settled

pytestmark = pytest.mark.api_server

LEASE = "cascade-operator"


def holder(kubectl: Kubectl) -> str:
    return kubectl.try_("get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}").stdout


def acquired(kubectl: Kubectl) -> float:
    """Unix seconds since when the holder has the Lease."""
    lease = kubectl.json("get", "lease", LEASE)
    return datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp()


async def stands_by(operator: Operator) -> None:
    await until("a standby", lambda: "standing by" in operator.log.read_text())


async def begin_to_move(kubectl: Kubectl, *boundaries: int) -> None:
    patch = json.dumps({"spec": {"planning": {"boundaries": boundaries}}})
    warm = pods(kubectl)
    kubectl("patch", "csvc", "demo", "--type=merge", "-p", patch)
    await until("a move has begun", lambda: pods(kubectl) != warm)


async def test_moves_are_finished_by_whoever_comes_after_a_leader_that_died_or_stopped(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path) as one,
    ):
        await until("a leader", lambda: holder(kubectl) == "one")
        assert kubectl.apply(manifest(kubectl, gpuCount=6)).returncode == 0
        await until("one stage of six", lambda: settled(kubectl, 6))
        async with operator(server, kubectl.namespace, tmp_path, identity="two") as two:
            await stands_by(two)
            await begin_to_move(kubectl, 512)
            died = time.time()
            one.process.kill()
            await until("two stages", lambda: settled(kubectl, 3, 3))
            print(f"settled {time.time() - died:.1f} s after the leader's death")
            assert time.time() - died <= 15
            assert holder(kubectl) == "two"

            async with operator(server, kubectl.namespace, tmp_path, identity="three") as three:
                await stands_by(three)
                await begin_to_move(kubectl, 512, 4096)
                told = time.time()
                two.process.send_signal(signal.SIGTERM)
                await until("another leads", lambda: holder(kubectl) == "three")
                print(f"handed over {acquired(kubectl) - told:.2f} s after SIGTERM")
                assert acquired(kubectl) - told <= 2
                await until("three stages", lambda: settled(kubectl, 2, 2, 2))
        assert two.process.returncode == 0
        assert node.killed == set()


async def test_a_leader_that_was_suspended_ends_without_another_write(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path) as one,
    ):
        await until("a leader", lambda: holder(kubectl) == "one")
        assert kubectl.apply(manifest(kubectl, gpuCount=6)).returncode == 0
        await until("one stage of six", lambda: settled(kubectl, 6))
        async with operator(server, kubectl.namespace, tmp_path, identity="two") as two:
            await stands_by(two)
            await begin_to_move(kubectl, 512)
            one.process.send_signal(signal.SIGSTOP)
            await until("two stages", lambda: settled(kubectl, 3, 3))
            said = one.log.read_text()
            await begin_to_move(kubectl, 512, 4096)
            one.process.send_signal(signal.SIGCONT)
            await until("three stages", lambda: settled(kubectl, 2, 2, 2))
            # Work for both, if both took themselves for the leader.
            await begin_to_move(kubectl, 512)
            await until("two stages", lambda: settled(kubectl, 2, 4))
            await until("its end", lambda: one.process.poll() is not None)
            assert one.process.returncode == 1
            last_words = one.log.read_text().removeprefix(said)
            assert "no longer leading" in last_words
            for writer in ("cascade_operator.writes", "cascade_operator.report"):
                assert writer not in last_words, "it went on with the service"
            assert holder(kubectl) == "two"
        assert node.killed == set()
