"""What the pod watch makes of watch events."""

from dataclasses import replace

import pytest

from e2e.harness.podwatch import Sightings
from e2e.harness.service import PodFacts, pod_facts

POD = PodFacts(
    uid="a", name="pod-a", stage="0", bound=True, ready=True, terminating=False, restarts=0
)
GATED = replace(POD, uid="g", name="pod-g", bound=False, ready=False)
Event = tuple[str, PodFacts]

CASES: dict[str, tuple[list[Event], tuple[int, int, list[str], list[str]]]] = {
    "a bound pod that changes its stage label has moved": (
        [("ADDED", POD), ("MODIFIED", replace(POD, stage="1"))],
        (1, 1, [], []),
    ),
    "a placeholder that changes its label has not": (
        [("ADDED", GATED), ("MODIFIED", replace(GATED, stage="1"))],
        (0, 0, [], []),
    ),
    "a placeholder that is deleted is no loss": (
        [("ADDED", GATED), ("DELETED", GATED)],
        (0, 0, [], []),
    ),
    "a bound pod that terminates and is deleted is lost once": (
        [
            ("ADDED", POD),
            ("MODIFIED", replace(POD, terminating=True)),
            ("DELETED", replace(POD, terminating=True)),
        ],
        (0, 1, ["pod-a"], []),
    ),
    "a bound pod that vanishes without terminating is lost": (
        [("ADDED", POD), ("DELETED", POD)],
        (0, 1, ["pod-a"], []),
    ),
    "a container that started again is a restart": (
        [("ADDED", POD), ("MODIFIED", replace(POD, restarts=1))],
        (0, 1, [], ["pod-a"]),
    ),
    "a pod that has ended holds no place on its node any more": (
        [
            ("ADDED", POD),
            ("MODIFIED", replace(POD, terminating=True, ended=True)),
            ("ADDED", replace(POD, uid="b", name="pod-b")),
        ],
        (0, 1, ["pod-a"], []),
    ),
    "two bound pods at once are counted at their peak": (
        [
            ("ADDED", POD),
            ("ADDED", replace(POD, uid="b", name="pod-b")),
            ("DELETED", replace(POD, uid="b", name="pod-b", terminating=True)),
        ],
        (0, 2, ["pod-b"], []),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_sightings(case: str) -> None:
    events, (moves, most_bound, lost, restarted) = CASES[case]
    sightings = Sightings()

    for kind, pod in events:
        sightings.see(kind, pod, now=1.0)

    assert (sightings.moves, sightings.most_bound) == (moves, most_bound)
    assert (sightings.lost, sightings.restarted) == (lost, restarted)


def test_the_time_of_moves_spans_from_the_first_to_the_last() -> None:
    sightings = Sightings()
    for second, stage in enumerate(("0", "1", "0", "2")):
        sightings.see("MODIFIED", replace(POD, stage=stage), now=10.0 + second)

    assert (sightings.first_move, sightings.last_move) == (11.0, 13.0)


def test_pod_facts_count_restarts_of_sidecars_too() -> None:
    facts = pod_facts(
        {
            "metadata": {"uid": "u", "name": "n", "labels": {"cascadeservice.dev/stage": "2"}},
            "spec": {"nodeName": "node"},
            "status": {
                "initContainerStatuses": [{"restartCount": 2}],
                "containerStatuses": [{"restartCount": 1}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
    )

    assert facts == PodFacts("u", "n", "2", True, True, False, 3)


def test_pods_that_are_away_at_once_are_counted_from_when_all_were_there() -> None:
    other = replace(POD, uid="b", name="pod-b")
    sightings = Sightings()
    for kind, pod in [("ADDED", POD), ("ADDED", other), ("MODIFIED", replace(POD, ready=False))]:
        sightings.see(kind, pod, 0.0)
    assert sightings.most_missing == 1
    sightings.see("MODIFIED", replace(other, terminating=True), 0.0)
    assert sightings.most_missing == 2
