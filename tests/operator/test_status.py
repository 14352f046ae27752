"""The status, the events, the stage map and the plan as it is kept."""

import json
from dataclasses import replace
from pathlib import Path

import yaml
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.decide import in_force
from cascade_operator.decisions import DecisionRecord, Verdict
from cascade_operator.errors import Stalled
from cascade_operator.events import changes
from cascade_operator.mapping import choose_map
from cascade_operator.observation import Observation
from cascade_operator.plans import PlanRecord, TrafficSummary, first_plan, fit, resize, share
from cascade_operator.reasons import Reason
from cascade_operator.resources import stage_map_of
from cascade_operator.snapshot import Pod, Stage
from cascade_operator.status import by_type, error_status, render_status
from cascade_operator.traffic import METRICS_READ
from tests.conftest import Golden
from tests.operator.builders import NOW, instances, pod, service, snapshot, stage

GOLDEN = Path(__file__).parent / "golden"
SPEC = service(planning={"boundaries": [1024]})
TWO = replace(
    first_plan(SPEC, NOW),
    gain_percent=12.34,
    explanation="2 stages",
    traffic=TrafficSummary(3.2, 800.5, 200.25, 600),
    expected_remaining=((16, 200.0), (32, 190.5)),
)
RECORD = DecisionRecord(
    time=NOW,
    verdict=Verdict.ADOPTED,
    reason=Reason.GAIN_ENOUGH,
    message="8.1 % net gain for 4 moves, the wanted 5 % or more.",
    plan=TWO.id,
    predicted_gain_percent=8.12,
    measured_e2e_ms=5230.04,
    predicted_e2e_ms=4700.0,
)
MAP = stage_map_of(SPEC, TWO, "2026-02-02T02:40:00Z")


def observation() -> Observation:
    return Observation(
        spec=SPEC,
        snapshot=snapshot(stage(0, 4), stage(1, 4), *instances(4, 0), *instances(4, 1)),
        plan=TWO,
        shown=TWO,
        stage_map=MAP,
        decision=in_force(TWO),
        metrics=METRICS_READ,
        record=RECORD,
    )


def test_status(golden: Golden) -> None:
    golden(GOLDEN / "status.yaml", yaml.safe_dump(render_status(observation(), {}, NOW)))


def test_a_status_that_did_not_change_is_the_same_later() -> None:
    first = render_status(observation(), {}, NOW)
    again = replace(observation(), record=replace(RECORD, time=NOW + 60, message="8.2 %"))
    assert render_status(again, first, NOW + 100) == first


def test_decisions_outlive_the_operator_that_made_them() -> None:
    first = render_status(observation(), {}, NOW)
    unasked = render_status(replace(observation(), record=None), first, NOW + 100)
    assert unasked["decisions"] == first["decisions"]
    failed = error_status(first, Stalled(Reason.INVALID_SPEC, "change it"), 4, NOW)
    assert failed["decisions"] == first["decisions"]


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = render_status(observation(), {}, NOW)
    lost = replace(observation(), snapshot=snapshot(stage(0, 4), stage(1, 4), *instances(4)))
    second = by_type(render_status(lost, first, NOW + 100))
    before = by_type(first)
    assert second["Ready"]["lastTransitionTime"] == before["Ready"]["lastTransitionTime"]
    assert second["Degraded"]["lastTransitionTime"] != before["Degraded"]["lastTransitionTime"]


def test_an_early_error_leaves_the_rest_of_the_status_alone() -> None:
    first = render_status(observation(), {}, NOW)
    after = error_status(first, Stalled(Reason.INVALID_SPEC, "change it"), 4, NOW)
    assert by_type(after)["Progressing"]["reason"] == "InvalidSpec"
    assert by_type(after)["Ready"] == by_type(first)["Ready"]
    assert after["stages"] == first["stages"]
    assert by_type(error_status({}, Stalled(Reason.INVALID_SPEC, "x"), 1, NOW))["Ready"]


def test_an_event_comes_once_per_change_of_reason() -> None:
    first = render_status(observation(), {}, NOW)["conditions"]
    before = {entry["type"]: entry for entry in first}
    assert changes(before, first) == ()
    assert [one.reason for one in changes({}, first)] == [
        "Serving", "AllInstancesReady", "MetricsRead",
    ]  # fmt: skip
    lost = [{**entry, "status": "True", "reason": "Unschedulable"} for entry in first[2:3]]
    assert [one.warning for one in changes(before, lost)] == [True]


def test_the_map_switches_when_every_stage_has_a_ready_instance() -> None:
    one = fit(TWO, service(planning={"maxStages": 8}, instances=8))
    old = stage_map_of(service(), first_plan(service(), NOW), "2026-02-02T02:40:00Z")
    not_yet = snapshot(stage(0, 4), stage(1, 4), *instances(8, 0))
    half = snapshot(stage(0, 4), stage(1, 4), *instances(7, 0), pod("x", 1, ready=False))
    ready = snapshot(stage(0, 4), stage(1, 4), *instances(7, 0), pod("x", 1))
    nothing = snapshot(stage(0, 8))
    assert one.partition == TWO.partition
    assert choose_map(SPEC, TWO, not_yet, None).plan_id == TWO.id
    assert choose_map(SPEC, TWO, not_yet, old).plan_id == old.plan_id
    assert choose_map(SPEC, TWO, half, old).stages == old.stages
    assert choose_map(SPEC, TWO, ready, old).plan_id == TWO.id
    assert choose_map(SPEC, TWO, nothing, old).plan_id == TWO.id


def test_what_is_no_range_reaches_the_routers_at_once() -> None:
    hard = service(planning={"boundaries": [1024]}, routing={"boundaries": "hard"})
    old = stage_map_of(service(), first_plan(service(), NOW), "2026-02-02T02:40:00Z")
    kept = choose_map(hard, TWO, snapshot(stage(0, 8), *instances(8)), old)
    assert (kept.boundaries.value, kept.stages) == ("hard", old.stages)


def test_a_plan_survives_its_annotation() -> None:
    assert PlanRecord.loads(TWO.dumps()) == TWO
    assert PlanRecord.loads(None) is None
    assert PlanRecord.loads('{"id": 3}') is None
    assert PlanRecord.loads(TWO.dumps().replace('"instances":4', '"instances":0')) is None


def test_what_is_proposed_and_approved_survives_with_the_plan() -> None:
    proposal = replace(TWO, id="proposed", gain_percent=20.0)
    both = replace(TWO, proposal=proposal, approved="x")
    assert PlanRecord.loads(both.dumps()) == both


def test_a_plan_of_an_older_operator_is_read() -> None:
    data = json.loads(TWO.dumps())
    for younger in ("proposal", "approved"):
        del data[younger]
    assert PlanRecord.loads(json.dumps(data)) == TWO


def test_a_plan_that_is_fitted_has_nothing_proposed_in_its_place() -> None:
    proposed = replace(TWO, proposal=TWO)
    assert fit(proposed, SPEC).proposal == TWO
    assert fit(proposed, service(instances=12)).proposal is None


def test_a_plan_is_fitted_to_what_the_user_changed() -> None:
    def fitted(**spec: object) -> tuple[tuple[int, ...], tuple[int, ...]]:
        result = fit(TWO, service(**spec)).partition
        return result.ends, result.instances

    assert fitted() == ((1024, 16384), (4, 4))
    assert fitted(instances=12) == ((1024, 16384), (6, 6))
    assert fitted(instances=1) == ((16384,), (1,))
    assert fitted(model={"name": "m", "maxLength": 512}) == ((512,), (8,))
    assert fitted(planning={"boundaries": [64, 4096]}) == ((64, 4096, 16384), (3, 3, 2))
    assert fit(TWO, SPEC) is TWO


@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=9),
    spare=st.integers(0, 200),
)
def test_shares_add_up_and_follow_their_weights(weights: list[int], spare: int) -> None:
    total = len(weights) + spare
    counts = share(total, weights)
    assert sum(counts) == total
    assert min(counts) >= 1
    for count, weight in zip(counts, weights, strict=True):
        assert abs(count - 1 - spare * weight / sum(weights)) < 1


@given(
    counts=st.lists(st.integers(1, 50), min_size=1, max_size=9),
    total=st.integers(9, 400),
)
def test_declared_counts_change_without_a_move(counts: list[int], total: int) -> None:
    after = resize(total, counts)
    assert sum(after) == total
    assert min(after) >= 1
    changes = [new - old for new, old in zip(after, counts, strict=True)]
    assert min(changes) >= 0 or max(changes) <= 0


def test_declared_counts_are_shared_out_in_the_old_proportions_where_nobody_moves_for_it() -> None:
    assert resize(4, (2, 4)) == share(4, (2, 4)) == (2, 2)
    assert resize(12, (4, 4)) == share(12, (4, 4)) == (6, 6)
    assert share(13, (10, 1, 1)) == (9, 2, 2)
    assert resize(13, (10, 1, 1)) == (10, 2, 1)


def test_the_instances_ready_before_come_from_the_status() -> None:
    first = render_status(observation(), {}, NOW)
    parts: list[Stage | Pod] = [stage(0, 6), stage(1, 6), *instances(4), *instances(4, 1)]
    grown = replace(
        observation(), spec=replace(observation().spec, instances=12), snapshot=snapshot(*parts)
    )
    assert by_type(render_status(grown, first, NOW))["Degraded"]["status"] == "False"
    less = replace(grown, snapshot=snapshot(*parts[:-1]))
    assert by_type(render_status(less, first, NOW))["Degraded"]["status"] == "True"
