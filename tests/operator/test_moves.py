"""The move protocol and the lifting of gates, step by step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.lift import choose_lifts
from cascade_operator.marks import lift_patch, mark_patch
from cascade_operator.moves import (
    CreateStage,
    DeletePod,
    DeleteStage,
    MovePod,
    ReleasePod,
    SetReplicas,
    Step,
    most_moving,
    next_step,
)
from cascade_operator.plans import first_plan
from cascade_operator.resources import stage_map_of
from cascade_operator.rollout import Verdict, review
from cascade_operator.snapshot import STAGE_LEAVING, Pod, Snapshot, Stage
from tests.operator.builders import (
    NOW,
    instances,
    placeholder,
    pod,
    replica_set,
    service,
    snapshot,
    stage,
)


def step(counts: tuple[int, ...], *parts: Stage | Pod, mapped: int = 1) -> Step:
    return next_step(snapshot(*parts), counts, mapped_stages=mapped, max_moving=3)


def words(found: Step) -> list[str]:
    """Writes in short: `3->stage-1` and the like."""
    short = {
        CreateStage: lambda w: f"create {w.index} with {w.replicas}",
        SetReplicas: lambda w: f"{w.stage.name} to {w.replicas}",
        MovePod: lambda w: f"{w.pod.name} into {w.stage}",
        ReleasePod: lambda w: f"release {w.pod.name}",
        DeletePod: lambda w: f"delete {w.pod.name}",
        DeleteStage: lambda w: f"delete {w.stage.name}",
    }
    return [short[type(write)](write) for write in found.writes]


ONE_MOVE = (3, 1)
NOWHERE = [pod(f"w{i}", 0, bound=False, ready=False) for i in range(2)]
CASES: dict[str, tuple[tuple[int, ...], list[Stage | Pod], int, list[str]]] = {
    "nothing is there: the first stage is created": ((8,), [], 1, ["create 0 with 8"]),
    "settled: nothing is written": ((2,), [stage(0, 2), *instances(2)], 1, []),
    "a new stage is created before anything moves": (
        ONE_MOVE, [stage(0, 4), *instances(4)], 1, ["create 1 with 1"],
    ),
    "a deleted stage is created with room for the pods that it had": (
        (2, 2), [stage(0, 2), *instances(2), *instances(3, 1)], 2, ["create 1 with 3"],
    ),
    "a target that is too small is raised": (
        ONE_MOVE, [stage(0, 4), *instances(4), stage(1, 0)], 1, ["demo-stage-1 to 1"],
    ),
    "no pod moves before the Deployment's controller has seen the replicas": (
        ONE_MOVE, [stage(0, 4), *instances(4), stage(1, 1, set_replicas=0)], 1, [],
    ),
    "no pod moves before the ReplicaSet's controller has seen them": (
        ONE_MOVE,
        [
            stage(0, 4), *instances(4),
            stage(1, 1, replica_sets=(replica_set(1, 1, generation=2),)),
        ], 1, [],
    ),
    "with proof of room a pod moves, placeholder or not": (
        ONE_MOVE, [stage(0, 4), *instances(4), stage(1, 1)], 1, ["p00 into 1"],
    ),
    "a pod that is not ready yet moves last": (
        ONE_MOVE,
        [stage(0, 4), pod("a", ready=False), *instances(3), stage(1, 1)], 1, ["p00 into 1"],
    ),
    "the source is not lowered while it owns the moved pod": (
        ONE_MOVE,
        [stage(0, 4), *instances(3), pod("m", 1, controller_uid="set-0"), stage(1, 1)], 1, [],
    ),
    "nor while nobody owns it: the target may not have it yet, but the source let go": (
        ONE_MOVE,
        [
            stage(0, 4, replica_sets=(replica_set(0, 4, observed_replicas=3),)), *instances(3),
            pod("m", 1, controller_uid=None), stage(1, 1),
        ], 1, ["demo-stage-0 to 3"],
    ),
    "a source whose controller still counts a pod that is gone is not lowered": (
        (3, 1), [stage(0, 4), *instances(3), stage(1, 1), pod("m", 1)], 1, [],
    ),
    "the source is lowered when the target owns the pod": (
        ONE_MOVE,
        [stage(0, 4), *instances(3), placeholder("g"), stage(1, 1), pod("m", 1)],
        1, ["demo-stage-0 to 3"],
    ),
    "a dying pod is no departure: its ReplicaSet may not have seen it die": (
        (1, 1),
        [
            stage(0, 2, replica_sets=(replica_set(0, 2, observed_replicas=1),)),
            pod("a"), pod("d", deleting=True), stage(1, 1), pod("m", 1),
        ], 1, [],
    ),
    "its placeholder is the proof": (
        (1, 1),
        [
            stage(0, 2), pod("a"), pod("d", deleting=True), placeholder("g"),
            stage(1, 1), pod("m", 1),
        ], 1, ["demo-stage-0 to 1"],
    ),
    "replicas raised by hand are taken back": (
        (2,), [stage(0, 4), *instances(2), placeholder("g"), placeholder("h")], 1,
        ["demo-stage-0 to 2"],
    ),
    "a stage that the routers still know is emptied but not deleted": (
        (2,), [stage(0, 2), *instances(2), stage(1, 0)], 2, [],
    ),
    "an empty stage that the routers have dropped is deleted": (
        (2,), [stage(0, 2), *instances(2), stage(1, 0)], 1, ["delete demo-stage-1"],
    ),
    "a stage is not deleted while a pod is labelled for it": (
        (1,),
        [stage(0, 1), pod("a"), stage(1, 0), pod("b", 1, controller_uid=None, gated=True)], 1, [],
    ),
    "a stage is not deleted before its ReplicaSet reports no replicas": (
        (2,),
        [
            stage(0, 2), *instances(2),
            stage(1, 0, replica_sets=(replica_set(1, 0, observed_replicas=1),)),
        ], 1, [],
    ),
    "an orphan is taken back where one is missing": (
        (2,),
        [stage(0, 2), pod("a"), pod("lost", None, stage_label="9x"), placeholder("g")], 1,
        ["lost into 0"],
    ),
    "an orphan with an old template is replaced": (
        (2,),
        [
            stage(0, 2), pod("a"), placeholder("g"),
            pod("lost", None, stage_label="9x", template_hash="old"),
        ], 1, ["delete lost"],
    ),
    "too many instances: exactly one is released, the one that is not ready": (
        (2,), [stage(0, 3), pod("a", ready=False), *instances(2)], 1, ["release a"],
    ),
    "who has no node is released before who has one, in whatever stage": (
        (2, 2), [stage(0, 2), *NOWHERE, stage(1, 3), *instances(3, 1)], 2, ["release w1"],
    ),
    "then those beyond the wanted number": (
        (1, 1), [stage(0, 2), *NOWHERE, stage(1, 3), *instances(3, 1)], 2,
        ["release w1", "release w0", "release p12"],
    ),
    "a released pod is deleted when nobody owns it": (
        (2,),
        [stage(0, 2), *instances(2), pod("x", None, stage_label=STAGE_LEAVING)], 1, ["delete x"],
    ),
    "but not before": (
        (2,),
        [
            stage(0, 3), *instances(2),
            pod("x", None, stage_label=STAGE_LEAVING, controller_uid="set-0"),
        ], 1, [],
    ),
    "a released pod comes back when it is wanted again": (
        (3,),
        [
            stage(0, 3), *instances(2), placeholder("g"),
            pod("x", None, stage_label=STAGE_LEAVING),
        ], 1, ["x into 0"],
    ),
    "a placeholder that lost its controller goes": (
        (1,), [stage(0, 1), pod("a"), placeholder("g", controller_uid=None, stage_label="7")], 1,
        ["delete g"],
    ),
    "nothing moves while templates differ": (
        ONE_MOVE,
        [stage(0, 4), *instances(4), stage(1, 1, template_hash="new")], 1, [],
    ),
    "nothing moves while a Deployment is being deleted": (
        ONE_MOVE, [stage(0, 4, deleting=True), *instances(4), stage(1, 1)], 1, [],
    ),
    "no more than three move at once": (
        (1, 5), [stage(0, 6), *instances(6), stage(1, 5)], 1,
        ["p00 into 1", "p01 into 1", "p02 into 1"],
    ),
    "those on their way count": (
        (1, 5),
        [
            stage(0, 6), *instances(4), stage(1, 5),
            pod("x", 1, controller_uid="set-0"), pod("y", 1, controller_uid=None),
        ], 1, ["p00 into 1"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_step(case: str) -> None:
    counts, parts, mapped, want = CASES[case]
    assert words(step(counts, *parts, mapped=mapped)) == want


def lifted(counts: tuple[int, ...], number: int, *parts: Stage | Pod) -> list[str]:
    return [found.name for found in choose_lifts(snapshot(*parts), counts, number, NOW)]


def test_placeholders_are_lifted_up_to_the_declared_number() -> None:
    gated = [placeholder(f"g{i}") for i in range(4)]
    assert lifted((4,), 4, stage(0, 4), *gated) == ["g0", "g1", "g2", "g3"]
    assert lifted((4,), 2, stage(0, 4), *gated) == ["g0", "g1"]


def test_a_dying_pod_holds_its_gpus_until_it_is_gone() -> None:
    parts: list[Stage | Pod] = [
        stage(0, 2),
        pod("a"),
        pod("dying", deleting=True),
        placeholder("g"),
    ]
    assert lifted((2,), 2, *parts) == []
    assert lifted((2,), 2, *parts[:2], parts[3]) == ["g"]


def test_a_pod_whose_kubelet_should_have_ended_it_holds_no_gpus_any_more() -> None:
    def parts(end_by: float) -> list[Stage | Pod]:
        dying = pod("dying", deleting=True, end_by=end_by)
        return [stage(0, 2), pod("a"), dying, placeholder("g")]

    assert lifted((2,), 2, *parts(NOW - 20)) == []
    assert lifted((2,), 2, *parts(NOW - 40)) == ["g"]


def test_a_placeholder_of_a_pod_that_is_on_its_way_in_is_not_lifted() -> None:
    on_its_way = pod("m", 1, controller_uid=None)
    parts: list[Stage | Pod] = [stage(0, 2), pod("a"), stage(1, 1), on_its_way, placeholder("g", 1)]
    assert lifted((1, 2), 3, *parts) == []


def test_in_a_rollout_only_placeholders_of_the_new_template_are_lifted() -> None:
    rolling = stage(
        0,
        2,
        template_hash="new",
        revision=2,
        replica_sets=(
            replica_set(0, 1, "new", uid="new", revision=2, pod_template_hash="hn"),
            replica_set(0, 1, uid="old"),
        ),
    )
    old = placeholder("old", controller_uid="old")
    new = placeholder("new", controller_uid="new", pod_template_hash="hn")
    assert lifted((2,), 2, rolling, pod("a", controller_uid="old"), old, new) == ["new"]


def rollout(snapshot_: Snapshot, *, moves_done: bool = True) -> tuple[Verdict, str | None]:
    found = review(snapshot_, "new", moves_done=moves_done)
    return found.verdict, found.stage.name if found.stage is not None else None


def test_a_new_template_goes_stage_by_stage() -> None:
    old, new = stage(0, 1), stage(0, 1, template_hash="new")
    other = stage(1, 1)
    one, two = pod("a", 0), pod("b", 1)
    assert rollout(snapshot(old, other, one, two)) == (Verdict.APPLY, "demo-stage-0")
    assert rollout(snapshot(new, other, one, two)) == (Verdict.APPLY, "demo-stage-1")
    starting = pod("a", 0, ready=False)
    assert rollout(snapshot(new, other, starting, two)) == (Verdict.WAIT, "demo-stage-0")
    away = pod("b", 1, ready=False)
    assert rollout(snapshot(old, other, one, away)) == (Verdict.APPLY, "demo-stage-1")
    done = stage(1, 1, template_hash="new")
    assert rollout(snapshot(new, done, one, two)) == (Verdict.READY, None)


def test_half_done_moves_are_finished_before_a_template_is_applied() -> None:
    parts = snapshot(stage(0, 1), pod("a"))
    assert rollout(parts, moves_done=False)[0] is Verdict.FINISH_MOVES


def test_a_rollout_that_runs_is_waited_for_and_a_bad_one_can_be_replaced() -> None:
    def rolling(template: str) -> Stage:
        sets = (
            replica_set(0, 1, template, uid="new", revision=2),
            replica_set(0, 1, uid="old"),
        )
        return stage(0, 2, template_hash=template, revision=2, replica_sets=sets)

    assert rollout(snapshot(rolling("new"))) == (Verdict.WAIT, "demo-stage-0")
    assert rollout(snapshot(rolling("bad"))) == (Verdict.APPLY, "demo-stage-0")


def test_a_pod_that_has_everything_is_left_alone() -> None:
    spec = service()
    stage_map = stage_map_of(spec, first_plan(spec, NOW), "2026-02-02T02:40:00Z")
    assert mark_patch(pod("a", length_range="0-16384"), spec, stage_map) is None
    stray = mark_patch(pod("a", length_range="0-16384", service=None), spec, stage_map)
    assert stray is not None
    assert stray["metadata"]["labels"] == {"cascadeservice.dev/service": "demo"}
    bare = mark_patch(pod("a", owners=frozenset(), placed=False), spec, stage_map)
    assert bare is not None
    assert bare["metadata"]["uid"] == "uid-a"
    assert bare["metadata"]["resourceVersion"] == "1"
    assert bare["metadata"]["ownerReferences"][0]["controller"] is False
    assert bare["metadata"]["labels"] == {
        "cascadeservice.dev/placed": "true",
        "llm-d.ai/context-length-range": "0-16384",
    }


def test_only_our_gate_is_removed() -> None:
    patch = lift_patch(placeholder("g"), service(), None)
    assert patch["spec"]["schedulingGates"] == [
        {"$patch": "delete", "name": "cascadeservice.dev/placement"}
    ]


PAUSED: dict[str, tuple[tuple[int, ...], list[Stage | Pod], list[str]]] = {
    "nobody leaves a stage for another one": (
        ONE_MOVE, [stage(0, 4), *instances(4), stage(1, 1)], [],
    ),
    "who belongs to nobody is taken in": (
        ONE_MOVE, [stage(0, 3), *instances(3), stage(1, 1), pod("lost", None)], ["lost into 1"],
    ),
    "a moved pod arrives, and its old stage is lowered": (
        ONE_MOVE,
        [
            stage(0, 4, replica_sets=(replica_set(0, 4, observed_replicas=3),)), *instances(3),
            stage(1, 1), pod("moved", 1),
        ],
        ["demo-stage-0 to 3"],
    ),
    "what is no longer declared is removed": (
        (2, 1), [stage(0, 3), *instances(3), stage(1, 1), *instances(1, 1)], ["release p02"],
    ),
    "who has no node goes first only where nobody has to take the place": (
        (2, 2), [stage(0, 2), *NOWHERE, stage(1, 3), *instances(3, 1)], ["release p12"],
    ),
    "a stage that the plan has no place for keeps what it has": (
        (4,), [stage(0, 4), *instances(3), stage(1, 1), *instances(1, 1)], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PAUSED)
def test_in_a_pause(case: str) -> None:
    counts, parts, expected = PAUSED[case]
    found = next_step(
        snapshot(*parts), counts, mapped_stages=len(counts), max_moving=3, paused=True
    )
    assert words(found) == expected


def test_what_a_pause_holds_back_is_counted_and_blocks_no_rollout() -> None:
    parts: list[Stage | Pod] = [stage(0, 4), *instances(3), stage(1, 1), *instances(1, 1)]
    found = next_step(snapshot(*parts), (4,), mapped_stages=1, max_moving=3, paused=True)
    assert (found.held_back, found.to_move, found.done) == (1, 0, True)


@given(st.integers(1, 5000))
def test_a_tenth_of_a_service_moves_at_once_and_never_more_than_half(number: int) -> None:
    most = most_moving(number)
    assert 1 <= most <= max(1, number // 2)
    assert most <= max(8, number // 10)
    assert most_moving(number + 1) >= most


def test_how_many_move_at_once() -> None:
    assert [most_moving(number) for number in (1, 3, 16, 80, 200, 1000)] == [1, 1, 8, 8, 20, 100]
