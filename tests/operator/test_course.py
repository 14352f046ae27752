"""Moves and the rollout of a changed template, one after the other."""

from cascade_operator.course import choose_course
from cascade_operator.moves import CreateStage, ReleasePod, SetReplicas, Step
from cascade_operator.rollout import Rollout, Verdict
from cascade_operator.snapshot import Pod, Stage
from tests.operator.builders import instances, placeholder, pod, replica_set, snapshot, stage

THREE_STAGES = (1, 1, 1)


def course(*parts: Stage | Pod, template: str = "new") -> tuple[Step, Rollout]:
    return choose_course(snapshot(*parts), THREE_STAGES, template, mapped_stages=2, max_moving=2)


def applied(found: tuple[Step, Rollout]) -> str | None:
    verdict, to = found[1].verdict, found[1].stage
    return to.name if verdict is Verdict.APPLY and to is not None else None


def test_a_stage_of_the_plan_is_made_with_the_template_that_all_have() -> None:
    step, rollout = course(stage(0, 2), *instances(2), stage(1, 1), pod("b", 1), template="t")
    assert rollout.verdict is Verdict.READY
    assert step.writes == (CreateStage(2, 1),)


def test_a_changed_template_goes_before_a_stage_that_is_still_to_be_made() -> None:
    found = course(stage(0, 2), *instances(2), stage(1, 1), pod("b", 1))
    assert applied(found) == "demo-stage-0"


def test_a_move_under_way_ends_before_that_and_no_stage_is_made() -> None:
    left = replica_set(0, 3, observed_replicas=2)
    source, target = stage(0, 3, replica_sets=(left,)), stage(1, 1)
    step, rollout = course(source, *instances(2), target, pod("b", 1))
    assert rollout.verdict is Verdict.FINISH_MOVES
    assert step.writes == (SetReplicas(source, 2),)


def test_the_last_template_is_waited_for_before_the_stage_is_made() -> None:
    new, old = stage(0, 2, template_hash="new"), stage(1, 1)
    found = course(new, *instances(2), old, pod("b", 1))
    assert applied(found) == "demo-stage-1"
    both = stage(1, 1, template_hash="new")
    step, rollout = course(new, *instances(2), both, pod("b", 1))
    assert (rollout.verdict, step.writes) == (Verdict.READY, (CreateStage(2, 1),))


def test_a_lost_instance_keeps_its_place_while_moves_end() -> None:
    found = course(stage(0, 2), *instances(1), placeholder("g", 0), stage(1, 1), pod("b", 1))
    assert found[0].writes == ()
    assert applied(found) == "demo-stage-0"


def test_a_stage_that_instances_are_labelled_for_is_made_at_once() -> None:
    step, rollout = course(stage(0, 2), *instances(2), pod("b", 1, controller_uid=None))
    assert rollout.verdict is Verdict.FINISH_MOVES
    assert step.writes == (CreateStage(1, 1),)


def test_moves_that_the_plan_wants_begin_when_all_have_the_template() -> None:
    found = course(stage(0, 2), *instances(2), stage(1, 1), pod("b", 1), stage(2, 0))
    assert applied(found) == "demo-stage-0"
    new = [stage(index, count, template_hash="new") for index, count in enumerate((2, 1, 0))]
    step, rollout = course(*new, *instances(2), pod("b", 1))
    assert (rollout.verdict, step.writes) == (Verdict.READY, (SetReplicas(new[2], 1),))


def test_instances_beyond_the_declared_number_go_before_they_would_be_replaced() -> None:
    extra = instances(3)
    step, rollout = course(stage(0, 3), *extra, stage(1, 1), pod("b", 1))
    assert rollout.verdict is Verdict.FINISH_MOVES
    assert step.writes == (ReleasePod(extra[-1]),)


def test_a_stage_that_is_empty_stays_until_the_plan_is_followed() -> None:
    found = course(stage(0, 2), *instances(2), stage(1, 1), pod("b", 1), stage(2, 0), stage(3, 0))
    assert found[0].writes == ()
    assert applied(found) == "demo-stage-0"
