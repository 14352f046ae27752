"""Warm pods change stage while they serve, time and again and many at once: no client notices.

Twenty moves, or fifty with `--full`.
"""

import time

import pytest

from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

MOVES = 20
FULL_MOVES = 50
PARTITIONS = ([512], [512, 2048], [4096], [1024, 4096])
"""Boundaries that a user sets by hand, one after the other: each change moves several pods."""


def test_moves_in_a_row_keep_every_pod_and_every_stream(
    platform: Platform, namespace: Kubectl, full: bool
) -> None:
    service = apply_service(namespace, "moving", gpuCount=8)
    service.wait_ready(instances=8)
    before = {pod.uid: pod.restarts for pod in service.pods()}

    with PodWatch(service) as watch, traffic(platform, service, rate=4, duration=600) as load:
        turn = 0
        while watch.moves < (FULL_MOVES if full else MOVES):
            assert turn < 60, f"only {watch.moves} moves after {turn} changes of the boundaries"
            boundaries = PARTITIONS[turn % len(PARTITIONS)]
            service.patch(planning={**QUICK_PLANNING, "boundaries": boundaries})
            service.wait_settled(seconds=90)
            turn += 1
        load.stop()
        summary = load.summary()

    assert_nothing_lost(summary)
    assert (watch.lost, watch.restarted, watch.broken) == ([], [], False)
    assert watch.most_bound == 8, "a surplus pod was bound to a node"
    assert {pod.uid: pod.restarts for pod in service.pods()} == before


def test_eight_pods_spread_over_three_stages_within_five_seconds(namespace: Kubectl) -> None:
    service = apply_service(namespace, "spread", gpuCount=12)
    service.wait_ready(instances=12)

    with PodWatch(service) as watch:
        asked = time.monotonic()
        service.patch(planning={**QUICK_PLANNING, "boundaries": [1024, 4096]})
        # Nothing is known of the traffic, so the stages are of equal size.
        assert watch.wait_moves(8, seconds=60) == 8
        moved = time.monotonic() - asked
        service.wait_settled()
        settled = time.monotonic() - asked

    print(f"8 pods moved {moved:.1f} s after the patch, settled after {settled:.1f} s")
    assert [stage["ready"] for stage in service.view().status["stages"]] == [4, 4, 4]
    assert moved <= 5, "from the patch to the last label"
