"""Two operators and one Lease: whatever becomes of the leader, the other one finishes its moves,
and never do both of them write."""

import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

import pytest

from e2e.cluster import Unsupported
from e2e.cluster.audit import Request
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.leadership import Candidate, candidates, term, wait_for_leader, wait_for_pair
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import Service
from e2e.scenarios.stories import QUICK_PLANNING, apply_service

pytestmark = pytest.mark.cluster

INSTANCES = 6
TAKEOVER_SECONDS = 15.0
HAND_OVER_SECONDS = 2.0


@pytest.fixture(scope="module")
def service(platform: Platform) -> Iterator[Service]:
    """A service that all stories of this file move about."""
    namespace = platform.create_namespace(f"story-{uuid.uuid4().hex[:8]}")
    service = apply_service(namespace, "led", gpuCount=INSTANCES)
    service.wait_ready(instances=INSTANCES)
    yield service
    platform.kubectl.run("delete", "namespace", namespace.namespace, "--wait=false")


@contextmanager
def in_the_middle_of_a_move(service: Service, *boundaries: int) -> Iterator[PodWatch]:
    """Boundaries of a user, and the block begins when the first pod has moved; at its end, all
    are where the plan wants them, and none was lost, restarted or made in vain."""
    before = {pod.uid: pod.restarts for pod in service.pods()}
    with PodWatch(service) as watch:
        service.patch(planning={**QUICK_PLANNING, "boundaries": list(boundaries)})
        assert watch.wait_moves(1, seconds=60) >= 1, "nothing moved"
        yield watch
        service.wait_settled(seconds=90)
    assert (watch.lost, watch.restarted, watch.broken) == ([], [], False)
    assert watch.most_bound == INSTANCES, "a surplus pod was bound to a node"
    assert {pod.uid: pod.restarts for pod in service.pods()} == before


def _signal(platform: Platform, pod: Candidate, number: signal.Signals) -> None:
    try:
        platform.cluster.signal_pod(pod.uid, number)
    except Unsupported as error:
        pytest.skip(str(error))


def _writes(platform: Platform, pod: Candidate, since: float) -> list[Request]:
    """What a pod has changed, or tried to, after a moment in Unix seconds."""
    return [
        one
        for one in platform.cluster.audit()
        if one.pod == pod.name and one.at > since and one.wrote
    ]


def _leads(system: Kubectl, pod: str) -> bool:
    """What the process says of itself."""
    path = f"/api/v1/namespaces/{system.namespace}/pods/{pod}:8080/proxy/metrics"
    return "\ncascade_operator_leader 1\n" in system.run("get", f"--raw={path}")


def test_a_killed_leader_is_replaced_and_its_move_finished_within_15_seconds(
    platform: Platform, operator: Kubectl, service: Service
) -> None:
    leader, standby = wait_for_pair(operator)
    with in_the_middle_of_a_move(service, 512, 4096):
        killed, died = time.monotonic(), time.time()
        # Stopped, so that it cannot say good-bye; deleted, so that it does not come back.
        _signal(platform, leader, signal.SIGSTOP)
        assert not service.view().settled
        operator.delete("pod", leader.name, "--grace-period=0", "--force", "--wait=false")
        _signal(platform, leader, signal.SIGKILL)
        service.wait_settled(seconds=2 * TAKEOVER_SECONDS)
        seconds = time.monotonic() - killed
        led = term(operator).acquired - died
        print(
            f"the standby led {led:.1f} s and had finished the move {seconds:.1f} s after the "
            "leader's death"
        )
        assert seconds <= TAKEOVER_SECONDS
        assert term(operator).holder == standby.name


def test_a_leader_that_was_suspended_wakes_up_as_none_and_writes_no_more(
    platform: Platform, operator: Kubectl, service: Service
) -> None:
    leader, standby = wait_for_pair(operator)
    with in_the_middle_of_a_move(service, 1024):
        _signal(platform, leader, signal.SIGSTOP)
        assert not service.view().settled
        stopped = time.time()
        service.wait_settled(seconds=60)
        assert term(operator).holder == standby.name
    with in_the_middle_of_a_move(service, 256, 2048) as watch:
        moves = watch.moves
        _signal(platform, leader, signal.SIGCONT)
        woken = time.time()
        # Work for both, if both took themselves for the leader.
        for boundaries in ([512], [1024, 4096]):
            service.patch(planning={**QUICK_PLANNING, "boundaries": boundaries})
            service.wait_settled(seconds=60)
        until(
            "the former leader to begin anew",
            lambda: candidates(operator)[leader.name].restarts > leader.restarts,
            seconds=30,
        )
        print(f"woken after {moves} moves of {watch.moves}")
    assert "no longer leading" in operator.run("logs", leader.name, "--previous")
    until(
        "the former leader to be ready", lambda: candidates(operator)[leader.name].ready, seconds=30
    )
    assert (_leads(operator, leader.name), _leads(operator, standby.name)) == (False, True)
    assert term(operator).holder == standby.name

    first = min(one.at for one in _writes(platform, standby, stopped))
    assert _writes(platform, standby, woken), "there was nothing to write beside"
    assert _writes(platform, leader, 0.0), "the log does not know the leader"
    assert _writes(platform, leader, first) == []


def test_a_leader_that_is_told_to_stop_hands_over_within_2_seconds(
    operator: Kubectl, service: Service
) -> None:
    leader, standby = wait_for_pair(operator)
    said = subprocess.Popen(
        operator.command("logs", leader.name, "--follow", "--timestamps", "--tail=1"),
        stdout=subprocess.PIPE,
        text=True,
    )
    with said, in_the_middle_of_a_move(service, 512):
        operator.delete("pod", leader.name, "--wait=false")
        taken = wait_for_leader(operator, standby.name, seconds=30)
        words = said.communicate(timeout=30)[0].splitlines()
    (told,) = [line.split()[0] for line in words if "stopping on SIGTERM" in line]
    seconds = taken.acquired - datetime.fromisoformat(told).timestamp()
    print(f"handed over {seconds:.2f} s after the signal")
    assert 0 <= seconds <= HAND_OVER_SECONDS
