"""When every instance serves where the plan wants it."""

from dataclasses import replace

import pytest

from cascade_operator.outcome_review import is_placed
from cascade_operator.plans import first_plan
from cascade_operator.resources import stage_map_of
from cascade_operator.snapshot import Pod, Stage
from tests.operator.builders import NOW, instances, pod, service, snapshot, stage

SPEC = service(planning={"boundaries": [1024]})
PLAN = first_plan(SPEC, NOW)
MAP = stage_map_of(SPEC, PLAN, "2026-02-02T02:40:00Z")
PLACED: dict[str, tuple[list[Stage | Pod], str, bool]] = {
    "all are ready where they belong": (
        [stage(0, 4), stage(1, 4), *instances(4), *instances(4, 1)], PLAN.id, True,
    ),
    "one is not ready": (
        [stage(0, 4), stage(1, 4), *instances(4), *instances(3, 1), pod("x", 1, ready=False)],
        PLAN.id, False,
    ),
    "one is elsewhere": (
        [stage(0, 5), stage(1, 3), *instances(5), *instances(3, 1)], PLAN.id, False,
    ),
    "one is not taken in yet": (
        [stage(0, 4), stage(1, 4), *instances(4), *instances(3, 1),
         pod("x", 1, controller_uid=None)], PLAN.id, False,
    ),
    "one too many": (
        [stage(0, 4), stage(1, 4), *instances(4), *instances(4, 1), pod("x", None)],
        PLAN.id, False,
    ),
    "routers have another plan": (
        [stage(0, 4), stage(1, 4), *instances(4), *instances(4, 1)], "before", False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLACED)
def test_placed(case: str) -> None:
    parts, plan_id, expected = PLACED[case]
    assert is_placed(PLAN, snapshot(*parts), replace(MAP, plan_id=plan_id)) is expected
    assert not is_placed(PLAN, snapshot(*parts), None)
