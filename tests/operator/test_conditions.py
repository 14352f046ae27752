"""From what a pass found to conditions, as a table."""

from dataclasses import replace
from typing import Any

import pytest

from cascade_operator.conditions import (
    DEGRADED,
    METRICS_AVAILABLE,
    PLAN_APPLIED,
    PROGRESSING,
    READY,
    ROUTER_READY,
    conditions,
)
from cascade_operator.decide import in_force
from cascade_operator.errors import PassError, Stalled, Waiting
from cascade_operator.finding import Finding
from cascade_operator.moves import ReleasePod, Step
from cascade_operator.observation import Observation
from cascade_operator.plans import first_plan
from cascade_operator.reasons import HELP, Reason, troubleshooting_table
from cascade_operator.resources import stage_map_of
from cascade_operator.rollout import Rollout, Verdict
from cascade_operator.snapshot import Pod, Stage, Trouble
from cascade_operator.traffic import METRICS_READ, NOT_ASKED_YET
from tests.operator.builders import NOW, instances, pod, replica_set, service, snapshot, stage

SPEC = replace(service(), instances=2)
PLAN = first_plan(SPEC, NOW)
MAP = stage_map_of(SPEC, PLAN, "2026-02-02T02:40:00Z")
WAS_COMPLETE = {DEGRADED: {"status": "False", "reason": Reason.ALL_INSTANCES_READY}}
WAS_DEGRADED = {DEGRADED: {"status": "True", "reason": Reason.INSTANCES_NOT_READY}}
WAS_SERVING = {READY: {"reason": Reason.SERVING}}


def seen(*parts: Stage | Pod, **over: Any) -> Observation:
    base = Observation(
        spec=SPEC,
        snapshot=snapshot(*(parts or (stage(0, 2), *instances(2)))),
        plan=PLAN,
        shown=PLAN,
        stage_map=MAP,
        decision=in_force(PLAN),
        metrics=METRICS_READ,
    )
    return replace(base, **over)


def starting(
    number: int, trouble: Trouble | None = None, age: float = 60.0, *, sandboxed: bool = True
) -> list[Pod]:
    return [
        pod(
            f"s{i}",
            ready=False,
            router_running=False,
            trouble=trouble,
            sandboxed=sandboxed,
            since=NOW - age,
        )
        for i in range(number)
    ]


def cutting_off(error: PassError) -> PassError:
    error.cuts_off = True
    return error


CASES: dict[str, tuple[Observation, dict[str, Any], str, bool, Reason]] = {
    "all is well": (seen(), {}, READY, True, Reason.SERVING),
    "one of two is enough to serve": (
        seen(stage(0, 2), *instances(1), *starting(1)), {}, READY, True, Reason.SERVING,
    ),
    "the first instances are starting": (
        seen(stage(0, 2), *starting(2)), {}, READY, False, Reason.STARTING,
    ),
    "all instances went away": (
        seen(stage(0, 2), *starting(2)), WAS_SERVING, READY, False, Reason.NO_INSTANCE_READY,
    ),
    "a taken name": (
        seen(stage(0, 2), error=Waiting(Reason.NAME_TAKEN, "Service demo", 1.0)),
        {}, READY, False, Reason.NAME_TAKEN,
    ),
    "what keeps all clients away takes Ready from ready instances": (
        seen(error=cutting_off(Stalled(Reason.REFUSED_BY_CLUSTER, "Service demo"))), {}, READY,
        False, Reason.REFUSED_BY_CLUSTER,
    ),
    "an error does not take Ready from a service that serves": (
        seen(error=Waiting(Reason.NAME_TAKEN, "Service demo", 1.0)), {}, READY, True,
        Reason.SERVING,
    ),
    "routers know no stages": (seen(stage_map=None), {}, READY, False, Reason.STARTING),
    "nothing moves": (seen(), {}, PROGRESSING, False, Reason.SETTLED),
    "pods move": (
        seen(step=Step(waiting="proof", to_move=1)), {}, PROGRESSING, True,
        Reason.MOVING_INSTANCES,
    ),
    "pods start": (
        seen(stage(0, 2), *starting(2)), {}, PROGRESSING, True, Reason.STARTING_INSTANCES,
    ),
    "pods are released": (
        seen(step=Step(writes=(ReleasePod(pod("p")),))), {}, PROGRESSING, True,
        Reason.REMOVING_INSTANCES,
    ),
    "pods drain": (
        seen(stage(0, 2), *instances(2), pod("old", None, stage_label="leaving", deleting=True)),
        {}, PROGRESSING, True, Reason.REMOVING_INSTANCES,
    ),
    "a template rolls out": (
        seen(rollout=Rollout(Verdict.WAIT, message="demo-stage-0 rolls")), {}, PROGRESSING, True,
        Reason.ROLLING_OUT,
    ),
    "an error stops progress": (
        seen(error=Waiting(Reason.NAME_TAKEN, "Service demo", 1.0)), {}, PROGRESSING, False,
        Reason.NAME_TAKEN,
    ),
    "as many as declared": (seen(), {}, DEGRADED, False, Reason.ALL_INSTANCES_READY),
    "starting is no degradation": (
        seen(stage(0, 2), *starting(2)), {}, DEGRADED, False, Reason.STARTING_INSTANCES,
    ),
    "one instance at a time in a rollout is none": (
        seen(stage(0, 2), *instances(1), rollout=Rollout(Verdict.WAIT)), WAS_COMPLETE, DEGRADED,
        False, Reason.ROLLING_OUT,
    ),
    "no node fits": (
        seen(stage(0, 2), *starting(1, Trouble("Unschedulable", "0/3 nodes"))), {}, DEGRADED,
        True, Reason.UNSCHEDULABLE,
    ),
    "an image is missing": (
        seen(stage(0, 2), *starting(1, Trouble("ImagePullBackOff", "no such tag"))), {}, DEGRADED,
        True, Reason.IMAGE_PULL_FAILED,
    ),
    "an engine crashes": (
        seen(stage(0, 2), *starting(1, Trouble("CrashLoopBackOff", "back-off"))), {}, DEGRADED,
        True, Reason.CONTAINER_CRASHING,
    ),
    "a Secret is missing": (
        seen(stage(0, 2), *starting(1, Trouble("CreateContainerConfigError", "secret x"))), {},
        DEGRADED, True, Reason.CONTAINER_NOT_CREATED,
    ),
    "a Secret that is to be mounted is missing": (
        seen(stage(0, 2), *starting(2, age=61, sandboxed=False)), {}, DEGRADED, True,
        Reason.CONTAINER_NOT_CREATED,
    ),
    "volumes take their time": (
        seen(stage(0, 2), *starting(2, age=59, sandboxed=False)), {}, DEGRADED, False,
        Reason.STARTING_INSTANCES,
    ),
    "a quota is full": (
        seen(stage(0, 2, replica_sets=(replica_set(0, 2, failure="exceeded quota: gpus"),))), {},
        DEGRADED, True, Reason.QUOTA_EXCEEDED,
    ),
    "admission refuses the pods": (
        seen(stage(0, 2, replica_sets=(replica_set(0, 2, failure="violates PodSecurity"),))), {},
        DEGRADED, True, Reason.POD_REFUSED,
    ),
    "metrics are read": (seen(), {}, METRICS_AVAILABLE, True, Reason.METRICS_READ),
    "Prometheus is away": (
        seen(metrics=Finding(False, Reason.PROMETHEUS_UNREACHABLE, "refused")), {},
        METRICS_AVAILABLE, False, Reason.PROMETHEUS_UNREACHABLE,
    ),
    "the plan is in force": (seen(), {}, PLAN_APPLIED, True, Reason.PLAN_IN_FORCE),
    "the plan is advice": (
        seen(decision=Finding(False, Reason.ADVISORY, "would change")), {}, PLAN_APPLIED, False,
        Reason.ADVISORY,
    ),
    "planning is paused": (
        seen(decision=Finding(False, Reason.PAUSED, "Paused")), {}, PLAN_APPLIED, False,
        Reason.PAUSED,
    ),
    "a pause keeps instances where they are": (
        seen(step=Step(held_back=2)), {}, PROGRESSING, False, Reason.PAUSED,
    ),
    "what is between stages arrives in a pause": (
        seen(step=Step(waiting="proof", to_move=1, held_back=2)), {}, PROGRESSING, True,
        Reason.MOVING_INSTANCES,
    ),
    "an error keeps the plan from being followed": (
        seen(error=Stalled(Reason.INVALID_SPEC, "a hook")), {}, PLAN_APPLIED, False,
        Reason.INVALID_SPEC,
    ),
    "the plan waits for moves": (
        seen(step=Step(waiting="proof", to_move=1)), {}, PLAN_APPLIED, False,
        Reason.MOVING_INSTANCES,
    ),
    "the plan waits for a rollout": (
        seen(rollout=Rollout(Verdict.WAIT, message="demo-stage-0 rolls")), {}, PLAN_APPLIED,
        False, Reason.WAITING_FOR_ROLLOUT,
    ),
    "routers still have the ranges before": (
        seen(stage_map=replace(MAP, plan_id="before")), {}, PLAN_APPLIED, False,
        Reason.WAITING_FOR_STAGES,
    ),
    "all routers run": (seen(), {}, ROUTER_READY, True, Reason.ROUTERS_RUNNING),
    "a router is down": (
        seen(stage(0, 2), *instances(1), *starting(1)), {}, ROUTER_READY, False,
        Reason.ROUTERS_NOT_RUNNING,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_condition(case: str) -> None:
    observation, previous, type_, holds, reason = CASES[case]
    found = {one.type: one for one in conditions(observation, previous, 0, NOW)}
    assert (found[type_].holds, found[type_].reason) == (holds, reason)
    assert found[type_].message


def told(reason: Reason, message: str, *, holds: bool = True) -> dict[str, Any]:
    return {
        "status": "True" if holds else "False",
        "reason": str(reason),
        "message": message,
        "observedGeneration": SPEC.generation,
    }


def test_an_operator_that_has_yet_to_ask_contradicts_nothing() -> None:
    before = {
        METRICS_AVAILABLE: told(Reason.METRICS_READ, "traffic was read"),
        PLAN_APPLIED: told(Reason.NO_TRAFFIC, "no request"),
    }
    new = seen(metrics=NOT_ASKED_YET)
    found = {one.type: one for one in conditions(new, before, 2, NOW)}
    assert (found[METRICS_AVAILABLE].holds, found[METRICS_AVAILABLE].reason) == (
        True, Reason.METRICS_READ,
    )  # fmt: skip
    assert (found[PLAN_APPLIED].reason, found[PLAN_APPLIED].message) == (
        Reason.NO_TRAFFIC, "no request",
    )  # fmt: skip


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {**told(Reason.METRICS_READ, "x"), "observedGeneration": 1},
        {**told(Reason.METRICS_READ, "x"), "reason": "OfANewerOperator"},
    ],
)
def test_what_it_cannot_stand_by_it_does_not_repeat(entry: dict[str, Any]) -> None:
    new = seen(metrics=NOT_ASKED_YET)
    before = {METRICS_AVAILABLE: entry, PLAN_APPLIED: entry}
    found = {one.type: one for one in conditions(new, before, 2, NOW)}
    assert found[METRICS_AVAILABLE].reason is Reason.NOT_ASKED_YET
    assert found[PLAN_APPLIED].reason is Reason.PLAN_IN_FORCE


@pytest.mark.parametrize("reason", [Reason.WAITING_FOR_STAGES, Reason.INVALID_SPEC])
def test_a_plan_that_has_come_into_force_is_said_to_be_so_before_anything_is_asked(
    reason: Reason,
) -> None:
    before = {PLAN_APPLIED: told(reason, "wait", holds=False)}
    found = {one.type: one for one in conditions(seen(metrics=NOT_ASKED_YET), before, 2, NOW)}
    assert found[PLAN_APPLIED].holds


TWO_OF_FOUR = seen(stage(0, 4), *instances(2), *starting(2), spec=replace(SPEC, instances=4))
DEGRADATION: dict[str, tuple[Observation, dict[str, Any], int, bool]] = {
    "a spec that grew is no degradation": (TWO_OF_FOUR, WAS_COMPLETE, 2, False),
    "nor is it while the instances have no pods": (
        seen(stage(0, 2), *instances(2), spec=replace(SPEC, instances=4)), WAS_COMPLETE, 2, False,
    ),
    "one that was ready is lost": (
        seen(stage(0, 2), *instances(1), *starting(1)), WAS_COMPLETE, 2, True,
    ),
    "one is lost while the others start": (TWO_OF_FOUR, WAS_COMPLETE, 3, True),
    "what was lost is so until all are ready": (
        seen(stage(0, 2), *instances(1), *starting(1)), WAS_DEGRADED, 1, True,
    ),
    "all are ready again": (seen(), WAS_DEGRADED, 1, False),
    "one takes long, but not too long": (
        seen(stage(0, 2), *instances(1), *starting(1, age=1800)), {}, 1, False,
    ),
    "one takes too long": (seen(stage(0, 2), *instances(1), *starting(1, age=1801)), {}, 1, True),
    "the last one of a rollout still starts": (
        seen(stage(0, 2), *instances(1), *starting(1)),
        {DEGRADED: {"status": "False", "reason": Reason.ROLLING_OUT}}, 1, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DEGRADATION)
def test_degraded_is_what_was_lost_or_takes_too_long(case: str) -> None:
    observation, previous, ready_before, holds = DEGRADATION[case]
    found = {one.type: one for one in conditions(observation, previous, ready_before, NOW)}
    assert found[DEGRADED].holds is holds
    if holds:
        assert found[DEGRADED].reason is Reason.INSTANCES_NOT_READY


def test_every_reason_has_a_meaning_and_a_remedy() -> None:
    assert set(HELP) == set(Reason)
    table = troubleshooting_table()
    assert all(f"`{reason}`" in table for reason in Reason)
