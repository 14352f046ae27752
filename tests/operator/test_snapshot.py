"""From raw lists to records."""

import math
from typing import Any

import pytest

from cascade_operator.pod_object import pod_object
from cascade_operator.snapshot import take_snapshot

EARLY, LATE = "2026-02-02T02:40:00Z", "2026-02-02T05:40:00Z"


@pytest.mark.parametrize(
    ("case", "created", "scheduled", "want"),
    [
        ("on a node: since it was put there", EARLY, ("True", LATE), 1_770_010_800.0),
        ("a placeholder: since it was created", EARLY, ("False", LATE), 1_770_000_000.0),
        ("no conditions yet: since it was created", EARLY, None, 1_770_000_000.0),
        ("no time at all: not for long", None, None, math.inf),
    ],
)
def test_since_when_a_pod_starts(
    case: str, created: str | None, scheduled: tuple[str, str] | None, want: float
) -> None:
    metadata = {"name": "p", "uid": "u", "resourceVersion": "1"}
    if created is not None:
        metadata["creationTimestamp"] = created
    pod: dict[str, Any] = {"metadata": metadata, "spec": {}, "status": {}}
    if scheduled is not None:
        status, time = scheduled
        condition = {"type": "PodScheduled", "status": status, "lastTransitionTime": time}
        pod["status"] = {"conditions": [condition]}
    assert take_snapshot([], [], [pod_object(pod)]).pods[0].since == want, case


@pytest.mark.parametrize(
    ("case", "conditions", "want"),
    [
        ("its volumes are mounted", [("PodReadyToStartContainers", "True")], True),
        ("a volume is missing", [("PodReadyToStartContainers", "False")], False),
        ("a cluster that does not tell", [("PodScheduled", "True")], True),
    ],
)
def test_whether_the_containers_of_a_pod_can_start(
    case: str, conditions: list[tuple[str, str]], want: bool
) -> None:
    pod: dict[str, Any] = {
        "metadata": {"name": "p", "uid": "u", "resourceVersion": "1"},
        "spec": {},
        "status": {"conditions": [{"type": name, "status": value} for name, value in conditions]},
    }
    assert take_snapshot([], [], [pod_object(pod)]).pods[0].sandboxed is want, case
