"""What others did, and what it cost, as a table of looks; told once, and nothing of our own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.acts import Act, edit
from cascade_operator.ledger import COST_SECONDS, Ledger, look, questions
from cascade_operator.managers import Trace
from cascade_operator.moves import DeletePod, DeleteStage, MovePod, ReleasePod, Write
from cascade_operator.snapshot import Pod, Snapshot, Stage, Trouble
from cascade_policy import names
from tests.operator.builders import NOW, instances, placeholder, pod, replica_set, snapshot, stage

COUNTS = (3, 1)
SCALED = (Trace("kubectl", "then", ("spec.replicas",)),)
CALM = snapshot(stage(0, 3), *instances(3), stage(1, 1), *instances(1, 1))


def without(*uids: str, stages: Sequence[Stage] = CALM.stages) -> Snapshot:
    return Snapshot(tuple(stages), tuple(one for one in CALM.pods if one.uid not in uids))


def change(name: str, **over: Any) -> Snapshot:
    """One pod of the calm service is another."""
    first = int(name[1])
    return Snapshot(CALM.stages, (*without(f"uid-{name}").pods, pod(name, first, **over)))


def after(
    *looks: Snapshot,
    edits: Mapping[int, Sequence[Act]] | None = None,
    answers: Mapping[str, Any] | None = None,
    writes: Mapping[int, Sequence[Write]] | None = None,
    seconds: float = 1.0,
    ledger: Ledger | None = None,
) -> list[str]:
    """What is told from the calm service on, `seconds` between the looks."""
    told: list[str] = []
    ledger = ledger or look(None, CALM, COUNTS, [], {}, NOW)[0]
    for number, shot in enumerate(looks, 1):
        found = (edits or {}).get(number, ())
        now = NOW + number * seconds
        ledger, happenings = look(ledger, shot, COUNTS, found, answers or {}, now)
        ledger = ledger.expecting((writes or {}).get(number, ()))
        told.extend(f"{one.reason}: {one.message}" for one in happenings)
    return told


ROLLING = stage(
    0,
    3,
    revision=2,
    replica_sets=(
        replica_set(0, 1, uid="new", revision=2, pod_template_hash="hn"),
        replica_set(0, 2),
    ),
)
DOWN = stage(0, 1, scaled_by=SCALED)
UP = stage(0, 5, scaled_by=SCALED)
GONE = [one for one in CALM.stages if one.index]
NEW = stage(
    0, 3, uid="again", replica_sets=(replica_set(0, 3, deployment_uid="again", uid="set-again"),)
)
MINE = {
    "metadata": {
        "uid": "uid-p00",
        "labels": {},
        "managedFields": [
            {
                "manager": "kubectl-label",
                "time": "then",
                "fieldsV1": {"f:metadata": {"f:labels": {f"f:{names.LABEL_STAGE}": {}}}},
            }
        ],
    }
}
CASES: dict[str, tuple[list[Snapshot], dict[str, Any], list[str]]] = {
    "a calm service has nothing to tell": ([CALM, CALM], {}, []),
    "a deleted instance is told one look later, and once": (
        [change("p00", deleting=True), change("p00", deleting=True), without("uid-p00"), CALM],
        {},
        ["InstanceLost: somebody deleted p00: 1 instance was lost; replacements start."],
    ),
    "instances that go together are one event": (
        [without("uid-p00", "uid-p01"), CALM],
        {},
        [
            """InstanceLost: p00, p01 went at once, deleted or lost with its node: 2 instances
            were lost; replacements start."""
        ],
    ),
    "an eviction is told in the cluster's words": (
        [
            change("p00", deleting=True, disruption=Trouble("EvictionByEvictionAPI", "evicting")),
            CALM,
        ],
        {},
        [
            """InstanceLost: the cluster ended p00 (EvictionByEvictionAPI: evicting): 1
            instance was lost; replacements start."""
        ],
    ),
    "a stage that was scaled up is told when it is in order again": (
        [Snapshot((UP, *GONE), CALM.pods), CALM, CALM],
        {},
        [
            """StageScaled: kubectl scaled Deployment demo-stage-0 from 3 to 5: the operator
            sets it back to what the plan wants; no instance was lost."""
        ],
    ),
    "what a scale-down ended is its cost, also if it was missed before the scale-down was seen": (
        [without("uid-p00"), without("uid-p00", "uid-p01", stages=[DOWN, *GONE]), CALM, CALM],
        {},
        [
            """StageScaled: kubectl scaled Deployment demo-stage-0 from 3 to 1: the operator
            sets it back to what the plan wants; 2 instances were lost, p01, p00;
            replacements start."""
        ],
    ),
    "an act whose end nobody sees is told after a while": (
        [Snapshot((UP, *GONE), CALM.pods)] * 3,
        {"seconds": COST_SECONDS},
        [
            """StageScaled: kubectl scaled Deployment demo-stage-0 from 3 to 5: the operator
            sets it back to what the plan wants; no instance was lost."""
        ],
    ),
    "what an edit ended is its cost, and the rollout that it began is not told of": (
        [without("uid-p00", stages=[ROLLING, *GONE]), without("uid-p00"), without("uid-p00")],
        {"edits": {2: [edit(stage(0, 3), [Trace("kubectl-edit", "then", ("spec.x",))], NOW + 2)]}},
        [
            """StageEdited: kubectl-edit edited Deployment demo-stage-0 (spec.x): the operator
            wrote its own spec over it; 1 instance was lost, p00; replacements start."""
        ],
    ),
    "a rollout loses nothing, to its last instance": (
        [without("uid-p00", stages=[ROLLING, *GONE]), without("uid-p00", "uid-p01"), CALM, CALM],
        {},
        [],
    ),
    "an eviction in the middle of a rollout is told": (
        [
            Snapshot(
                (ROLLING, *GONE),
                change("p00", deleting=True, disruption=Trouble("Preemption", "by x")).pods,
            ),
            CALM,
        ],
        {},
        [
            """InstanceLost: the cluster ended p00 (Preemption: by x): 1 instance was lost;
            replacements start."""
        ],
    ),
    "a restart is told when it begins, with what it will cost": (
        [
            Snapshot((stage(0, 3, restarted_at="now"), *GONE), CALM.pods),
            without("uid-p00", stages=[replace(ROLLING, restarted_at="now"), *GONE]),
            Snapshot((stage(0, 3, restarted_at="now"), *GONE), CALM.pods),
        ],
        {},
        [
            """StageRestarted: somebody restarted Deployment demo-stage-0: its 3 instances are
            replaced one after the other, and moves wait."""
        ],
    ),
    "a deleted Deployment is told when its instances have been taken over": (
        [
            Snapshot(tuple(GONE), CALM.pods),
            Snapshot((NEW, *GONE), CALM.pods),
            Snapshot(
                (NEW, *GONE),
                tuple(
                    pod(one.name, one.stage, controller_uid="set-again") if not one.stage else one
                    for one in CALM.pods
                ),
            ),
            CALM,
        ],
        {},
        [
            """StageDeleted: somebody deleted Deployment demo-stage-0: the operator creates it
            again, and it takes over the instances that run; no instance was lost."""
        ],
    ),
    "a relabelled instance is told when it is at home again, with who did it": (
        [change("p00", stage_label="1"), change("p00", controller_uid=None), CALM, CALM],
        {
            "answers": {"uid-p00": MINE},
            "writes": {1: [MovePod(pod("p00", stage_label="1"), 0, "h0")]},
        },
        [
            """InstanceRelabelled: kubectl-label changed the label cascadeservice.dev/stage of
            pod p00 from 0 to 1: the operator takes it into a stage again as it runs; no
            instance was lost."""
        ],
    ),
    "the label of the service is put back, and told once": (
        [change("p00", service=None), change("p00", service=None, controller_uid=None), CALM, CALM],
        {},
        [
            """InstanceRelabelled: somebody changed the label cascadeservice.dev/service of pod
            p00 from demo to nothing: the operator takes it into a stage again as it runs; no
            instance was lost."""
        ],
    ),
    "an instance without the label of the service is told as taken out, not as gone": (
        [without("uid-p00"), without("uid-p00")],
        {"answers": {"uid-p00": MINE}},
        [
            """InstanceTakenOut: somebody took or changed the label cascadeservice.dev/service
            of pod p00: it runs on and keeps its GPUs, and a replacement starts; 1 instance
            lost. Delete the pod, or put the label back to take it in again."""
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_told(case: str) -> None:
    looks, given, want = CASES[case]
    assert after(*looks, **given) == [" ".join(one.split()) for one in want]


def test_what_the_operator_does_itself_is_not_told() -> None:
    calm = look(None, CALM, COUNTS, [], {}, NOW)[0]
    first, second, third = (one for one in CALM.pods if one.stage == 0)
    moved = calm.expecting([MovePod(first, 1, "h1"), ReleasePod(second), DeletePod(third)])
    apart = {first.uid, second.uid, third.uid}
    at_work = (
        *without(*apart).pods,
        pod(first.name, 1, controller_uid="set-0"),
        pod(second.name, 0, stage_label="leaving", controller_uid=None),
    )
    assert questions(moved, Snapshot(CALM.stages, at_work)) == ()
    assert after(Snapshot(CALM.stages, at_work), CALM, ledger=moved) == []
    released = calm.expecting([ReleasePod(second)])
    assert after(without(second.uid), without(second.uid), ledger=released) == []
    emptied = calm.expecting([DeleteStage(CALM.stages[1])])
    left = Snapshot(CALM.stages[:1], tuple(one for one in CALM.pods if one.stage == 0))
    assert after(left, ledger=emptied.expecting([DeletePod(one) for one in CALM.pods])) == []


def test_who_knows_nothing_yet_tells_only_what_the_plan_does_not_want() -> None:
    told = look(None, Snapshot((DOWN, *GONE), CALM.pods), COUNTS, [], {}, NOW)
    assert [act.what for act in told[0].acts] == ["kubectl scaled Deployment demo-stage-0 to 1"]
    wanted = stage(0, 3, scaled_by=SCALED)
    assert look(None, Snapshot((wanted, *GONE), CALM.pods), COUNTS, [], {}, NOW)[0].acts == ()


def test_only_odd_pods_are_asked_for() -> None:
    ledger = look(None, CALM, COUNTS, [], {}, NOW)[0]
    assert questions(None, CALM) == ()
    assert questions(ledger, CALM) == ()
    assert questions(ledger, without("uid-p01")) == ("p01",)
    assert questions(ledger, change("p00", pod_template_hash="h1")) == ("p00",)
    assert questions(ledger, change("p00", deleting=True)) == ()


@given(st.lists(st.sampled_from(range(4)), max_size=6))
def test_an_instance_is_told_as_lost_once_at_most(order: list[int]) -> None:
    shots = [CALM]
    for victim in order:
        uid = CALM.pods[victim].uid
        shots.append(Snapshot(CALM.stages, tuple(one for one in shots[-1].pods if one.uid != uid)))
    told = " ".join(after(*shots, shots[-1], shots[-1]))
    lost = {CALM.pods[victim].name for victim in order}
    assert all(told.count(name) == 1 for name in lost)


def test_placeholders_are_nobodys_loss() -> None:
    gated: list[Pod] = [placeholder("g0"), placeholder("g1")]
    ledger = look(None, Snapshot(CALM.stages, (*CALM.pods, *gated)), COUNTS, [], {}, NOW)[0]
    assert after(CALM, CALM, ledger=ledger) == []
