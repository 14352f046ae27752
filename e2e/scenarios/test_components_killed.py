"""Whatever dies while pods move, the moves are finished, and no pod and no stream is lost.

One kill of each component, or with `--full` 500 moves, in which one of them is killed time and
again.
"""

import random

import pytest

from e2e.cluster import Unsupported
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import Service
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
CHANGES_BETWEEN = 5
"""Plans that a full run follows undisturbed before the next kill."""
LENGTHS = (256, 512, 1024, 2048, 4096, 8192)
MOST_BOUNDARIES = 3


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


class _Shuffler:
    """Gives a service other boundaries by hand, at random, and knows when it follows them."""

    def __init__(self, service: Service, chance: random.Random) -> None:
        self._service = service
        self._chance = chance
        self._last: list[int] = []

    def change(self) -> None:
        """Other boundaries than before, and another number of them, so that pods have to move."""
        counts = [n for n in range(1, MOST_BOUNDARIES + 1) if n != len(self._last)]
        self._last = sorted(self._chance.sample(LENGTHS, self._chance.choice(counts)))
        self._service.patch(planning={**QUICK_PLANNING, "boundaries": self._last})

    def settle(self, *, seconds: float) -> list[int]:
        """Wait until the plan with these boundaries is in place; instances per stage."""

        def probe() -> list[int] | None:
            view = self._service.view()
            ends = [stage["maxLength"] for stage in view.plan_stages[:-1]]
            if ends != self._last or not view.settled:
                return None
            return [stage["instances"] for stage in view.plan_stages]

        return until(
            f"settled on the boundaries {self._last}",
            probe,
            seconds=seconds,
            seen=lambda: self._service.view().status,
        )


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
        shuffler = _Shuffler(service, chance)
        turn = sent = 0
        while turn < len(COMPONENTS) or (full and watch.moves < FULL_MOVES):
            sent = load.wait_for("sent", sent + REQUESTS_BETWEEN)
            for _ in range(CHANGES_BETWEEN if full else 0):
                shuffler.change()
                shuffler.settle(seconds=120)
            component = COMPONENTS[turn % len(COMPONENTS)]
            moved = watch.moves
            shuffler.change()
            assert watch.wait_moves(moved + 1, seconds=60) > moved, f"turn {turn}: nothing moved"
            # One that comes after more moves than there are comes when all are done.
            watch.wait_moves(moved + chance.randint(1, 4), seconds=1)
            _kill(platform, component)
            counts = shuffler.settle(seconds=180)
            print(f"{watch.moves} moves, {component} killed: settled as {counts}", flush=True)
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
