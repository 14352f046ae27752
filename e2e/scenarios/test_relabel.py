"""A pod that gets another stage label gets no more requests as one of its old stage.

What counts is the stage in which the router that sent it saw the pod: a stage of which nobody
answers in time falls to its neighbour, which may be a pod that has just left it.

Four changes of the boundaries, or eight with `--full`.
"""

import json
from collections.abc import Iterator
from datetime import datetime

import pytest

from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.platform import Platform
from e2e.harness.podwatch import Move, PodWatch
from e2e.harness.service import Service
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

RATE = 10
REQUESTS_BETWEEN = 60
PARTITIONS = ([512], [2048], [256, 4096], [1024])
MOST_SECONDS = 1.0
AROUND_SECONDS = 10.0


def _lines(service: Service) -> Iterator[JsonObject]:
    """The access log of all routers."""
    for pod in service.pods():
        for line in service.kubectl.run("logs", pod.name, "-c", "router").splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def _dispatched(line: JsonObject) -> float:
    """When a request was given to its instance, in Unix seconds."""
    ended = datetime.fromisoformat(line["time"]).timestamp()
    return float(ended - line["duration_seconds"] + line["wait_seconds"])


def _last_of_old_stage(move: Move, until: float, lines: list[JsonObject]) -> float | None:
    """Seconds from a move to the last request of the old stage on the pod, negative when it came
    before; None when there was none in the seconds around it."""
    around = [
        _dispatched(line) - move.at
        for line in lines
        # A line names the last instance: one that was handed over may have come from elsewhere.
        if (line["instance"], str(line["instance_stage"]), line["legs"])
        == (move.pod, move.source, 1)
        and move.at - AROUND_SECONDS < _dispatched(line) < until
    ]
    return max(around, default=None)


def test_a_relabelled_pod_gets_no_more_requests_of_its_old_stage(
    platform: Platform, namespace: Kubectl, full: bool
) -> None:
    service = apply_service(
        namespace,
        "relabelling",
        gpuCount=6,
        routing={"boundaries": "hard"},
        router={"accessLog": True},
        planning={**QUICK_PLANNING, "boundaries": PARTITIONS[-1]},
    )
    service.wait_ready(instances=6)
    with PodWatch(service) as watch, traffic(platform, service, rate=RATE, duration=600) as load:
        sent = 0
        for boundaries in PARTITIONS * (2 if full else 1):
            # So that every pod has served its stage just before.
            sent = load.wait_for("sent", sent + REQUESTS_BETWEEN)
            service.patch(planning={**QUICK_PLANNING, "boundaries": boundaries})
            service.wait_settled(seconds=90)
        load.stop()
        summary = load.summary()
    assert_nothing_lost(summary)
    lines, moves = list(_lines(service)), watch.moved
    assert len(moves) >= 3, moves
    last = []
    for number, move in enumerate(moves):
        later = [other.at for other in moves[number + 1 :] if other.pod == move.pod]
        last.append(_last_of_old_stage(move, min(later, default=float("inf")), lines))
    known = sorted(round(seconds, 3) for seconds in last if seconds is not None)
    print(f"{len(moves)} moves; seconds from each to the last request of the old stage: {known}")
    assert known, "no pod that moved had served its old stage just before"
    assert known[-1] <= MOST_SECONDS, known
