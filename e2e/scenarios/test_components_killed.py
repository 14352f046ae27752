"""Whatever dies while pods move, the moves are finished, and no pod and no stream is lost.

One kill of each component, or with `--full` as many as go into 500 moves.
"""

import random

import pytest

from e2e.cluster import Unsupported
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

INSTANCES = 8
OPERATOR = "operator"
COMPONENTS = (
    OPERATOR,
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-apiserver",
)
REQUESTS_BETWEEN = 30
"""So that streams are under way on every instance."""
FULL_MOVES = 500
PARTITIONS = ([1024], [512, 4096], [2048], [256, 1024, 4096])


def _kill(platform: Platform, component: str) -> None:
    """SIGKILL, and a new start."""
    if component == OPERATOR:
        platform.kill_operator()
        return
    try:
        platform.cluster.restart_component(component)
    except Unsupported as error:
        pytest.skip(str(error))
    until("the API server answers", lambda: _answers(platform.kubectl), seconds=60)


def _answers(kubectl: Kubectl) -> bool:
    try:
        return kubectl.run("get", "--raw=/readyz") == "ok"
    except KubectlFailed:
        return False


def test_components_that_are_killed_in_the_middle_of_moves_cost_nothing(
    platform: Platform, namespace: Kubectl, full: bool
) -> None:
    chance = random.Random(20261126)
    service = apply_service(namespace, "shaken", gpuCount=INSTANCES)
    service.wait_ready(instances=INSTANCES)
    before = {pod.uid: pod.restarts for pod in service.pods()}

    with (
        PodWatch(service, resumes=True) as watch,
        traffic(platform, service, rate=4, duration=7200) as load,
    ):
        turn = sent = 0
        while turn < len(COMPONENTS) or (full and watch.moves < FULL_MOVES):
            sent = load.wait_for("sent", sent + REQUESTS_BETWEEN)
            component = COMPONENTS[turn % len(COMPONENTS)]
            moved = watch.moves
            boundaries = PARTITIONS[turn % len(PARTITIONS)]
            service.patch(planning={**QUICK_PLANNING, "boundaries": boundaries})
            at = moved + chance.randint(1, 2)
            assert watch.wait_moves(at, seconds=60) >= at, f"turn {turn}: nothing moved"
            _kill(platform, component)
            view = service.wait_settled(seconds=180)
            wanted = [stage["instances"] for stage in view.plan_stages]
            print(f"{component} killed at move {at}: settled as {wanted}", flush=True)
            turn += 1
        load.stop()
        summary = load.summary()

    sent, again = summary["requestsSent"], summary["retries"]
    print(f"{watch.moves} moves, {turn} kills, {sent} requests, {again} of them refused at first")
    # A kubelet that starts again has not probed its pods yet, and here all are on its node.
    assert_nothing_lost({**summary, "retries": 0})
    assert (watch.lost, watch.restarted) == ([], [])
    assert watch.most_bound == INSTANCES, "a surplus pod was bound to a node"
    assert {pod.uid: pod.restarts for pod in service.pods()} == before
