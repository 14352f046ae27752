"""The operator dies in the middle of moves; the next one reads the cluster and finishes.

Once, or three times with `--full`.
"""

import pytest

from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster


def test_an_operator_killed_in_the_middle_of_moves_finishes_them(
    platform: Platform, namespace: Kubectl, full: bool
) -> None:
    service = apply_service(namespace, "resumed", gpuCount=6)
    service.wait_ready(instances=6)
    before = {pod.uid: pod.restarts for pod in service.pods()}

    with PodWatch(service) as watch, traffic(platform, service, rate=3, duration=300) as load:
        partitions = ([1024], [512, 4096], [2048])
        for turn, boundaries in enumerate(partitions if full else partitions[:1]):
            moved = watch.moves
            service.patch(planning={**QUICK_PLANNING, "boundaries": boundaries})
            assert watch.wait_moves(moved + 1, seconds=60) > moved, f"turn {turn}: nothing moved"
            platform.kill_operator()
            service.wait_settled(seconds=120)
        load.stop()
        summary = load.summary()

    assert_nothing_lost(summary)
    assert (watch.lost, watch.restarted, watch.broken) == ([], [], False)
    assert watch.most_bound == 6
    assert {pod.uid: pod.restarts for pod in service.pods()} == before
