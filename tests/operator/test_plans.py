"""The plan as it is kept: whatever the annotation holds, and whatever the clock says."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.plans import Penalty, PlanRecord, TrafficSummary, Trial, first_plan
from cascade_operator.times import timestamp
from cascade_planner.partition import Partition
from tests.operator.builders import NOW, service

SPEC = service(planning={"boundaries": [1024]})
BEFORE = replace(first_plan(service(), NOW - 900), moved=NOW - 900)
TRIAL = Trial(BEFORE, worth=1.2, variance=0.01, generation=3, began=NOW, placed=NOW + 5)
PLAN = replace(
    first_plan(SPEC, NOW),
    explanation="2 stages",
    traffic=TrafficSummary(3.2, 800.5, 200.25, 600),
    trial=TRIAL,
    penalty=Penalty("bad", NOW + 600, 1),
    proposal=replace(BEFORE, id="proposed"),
)


def written(**over: Any) -> str:
    """The annotation of PLAN with other contents."""
    return json.dumps({**json.loads(PLAN.dumps()), **over})


def test_what_a_newer_operator_adds_anywhere_costs_nothing() -> None:
    data = json.loads(PLAN.dumps())
    places = (data, data["stages"][0], data["trial"], data["trial"]["former"], data["penalty"],
              data["proposal"], data["traffic"])  # fmt: skip
    for place in places:
        place["invented"] = {"later": [1]}
    assert PlanRecord.loads(json.dumps(data)) == PLAN


@pytest.mark.parametrize("part", ["trial", "penalty", "proposal", "traffic"])
@pytest.mark.parametrize("odd", [{"of": "another shape"}, 7, "text", [], {"stages": []}])
def test_what_cannot_be_read_beside_the_ranges_costs_itself_alone(part: str, odd: object) -> None:
    read = PlanRecord.loads(written(**{part: odd}))
    assert read is not None
    assert json.loads(read.dumps()) == {**json.loads(PLAN.dumps()), part: None}


def test_ranges_are_joined_whatever_the_annotation_says() -> None:
    stages = [{"min_length": 5, "max_length": 1024, "instances": 3},
              {"min_length": 900, "max_length": 16384, "instances": 5}]  # fmt: skip
    read = PlanRecord.loads(written(stages=stages))
    assert read is not None
    assert read.partition == Partition((1024, 16384), (3, 5))
    assert [stage.min_length for stage in read.stages] == [0, 1025]


@pytest.mark.parametrize(
    "text",
    [
        None, "", "null", "[]", "7", '{"id": 3}', "[" * 100_000,
        written(stages=[]), written(stages=7), written(time="yesterday"),
        written(moved=float("nan")), written(time=float("inf")),
        written(stages=[{"max_length": 1024.5, "instances": 1}]),
        written(stages=[{"max_length": 1024, "instances": 0}]),
        written().replace(str(NOW), "1e999"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_no_plan(text: str | None) -> None:
    assert PlanRecord.loads(text) is None


@given(time=st.floats(-1e308, 1e308), moved=st.floats(-1e308, 1e308))
def test_no_time_of_a_plan_is_after_the_present_one(time: float, moved: float) -> None:
    odd = replace(PLAN, time=time, moved=moved, trial=replace(TRIAL, began=moved, read=time))
    odd = replace(odd, proposal=replace(BEFORE, time=time))
    plan = odd.as_of(NOW)
    assert plan.trial is not None
    assert plan.proposal is not None
    trial = plan.trial
    for one in (plan.time, plan.moved, plan.proposal.time, trial.began, trial.placed, trial.read):
        assert 0 <= one <= NOW
        assert timestamp(one)
    assert plan.as_of(NOW + 1) == plan
