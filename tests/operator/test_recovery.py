"""The plan in force, read off the labels of instances."""

import pytest

from cascade_operator.plans import PlannedStage
from cascade_operator.recovery import recovered_plan
from cascade_operator.snapshot import Pod
from tests.operator.builders import NOW, placeholder, pod, snapshot

LOW, HIGH = "0-1024", "1025-16384"


def ranged(name: str, index: int, lengths: str | None) -> Pod:
    return pod(name, index, length_range=lengths)


WHOLE = [ranged("a", 0, LOW), ranged("b", 0, LOW), ranged("c", 1, HIGH)]
BROKEN: dict[str, list[Pod]] = {
    "no instances tell nothing": [],
    "two ranges for one stage": [*WHOLE, ranged("d", 1, "0-5")],
    "an instance without a range": [*WHOLE, ranged("d", 1, None)],
    "a range that is none": [ranged("a", 0, "long")],
    "a stage is missing": [ranged("a", 0, LOW), ranged("c", 2, HIGH)],
    "a gap between ranges": [ranged("a", 0, LOW), ranged("c", 1, "2000-16384")],
    "a range of nothing": [ranged("a", 0, "0-0")],
}


def test_stages_ranges_and_counts_are_those_of_the_instances() -> None:
    parts = [*WHOLE, placeholder("g", 1), pod("dying", 1, deleting=True)]
    plan = recovered_plan(snapshot(*parts), NOW)
    assert plan is not None
    assert plan.stages == (PlannedStage(0, 1024, 2), PlannedStage(1025, 16384, 1))
    assert plan.moved == NOW, "the cooldown counts from now: nobody knows better"


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_tell_one_plan_tells_none(case: str) -> None:
    assert recovered_plan(snapshot(*BROKEN[case]), NOW) is None
