"""The fast loop: when ranges take a step, what the plan is then, and what the history keeps."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import create_autospec

import pytest

from cascade_operator.cluster import ClusterApi
from cascade_operator.decide import decide
from cascade_operator.decisions import Decision, DecisionRecord, Verdict, remember
from cascade_operator.finding import Finding
from cascade_operator.plans import Penalty, PlanRecord, Trial, stages_of
from cascade_operator.reasons import Reason
from cascade_operator.report import Reporter
from cascade_operator.times import timestamp
from cascade_operator.traffic import Latency
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import solve
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from tests.operator.builders import NOW, resource, service
from tests.operator.chat import chat
from tests.operator.test_decide import ONE_STAGE, SPEC
from tests.operator.test_status import observation

MANY = 100_000
TRAFFIC = chat(MANY)
LATENCY = Latency(4000.0, float(MANY))
BEST = solve(TRAFFIC, SPEC.planning.engine_model, 8).partition
STUBBORN = {"minGainPercent": 100}
"""The slow loop keeps every plan, whatever is better."""


def planned(partition: Partition, **over: Any) -> PlanRecord:
    """A plan that was made an hour ago."""
    made = replace(
        ONE_STAGE, id=partition.id, stages=stages_of(partition), time=NOW - 3600, moved=NOW - 3600
    )
    return replace(made, **over)


def shifted(factor: float) -> Partition:
    """The best plan, but for its first range."""
    first, *rest = BEST.ends
    return Partition((int(first * factor), *rest), BEST.instances)


FEW = replace(TRAFFIC, window_seconds=150 / TRAFFIC.requests_per_second)
OFF = planned(shifted(0.7))
TRIED = Trial(ONE_STAGE, worth=1.0, variance=0.0, generation=3, began=NOW - 60)


def decided(
    plan: PlanRecord = OFF, traffic: Traffic = TRAFFIC, placed: bool = True, **planning: Any
) -> Decision:
    spec = service(planning={**STUBBORN, **planning})
    return decide(plan, traffic, spec, NOW, LATENCY, placed=placed)


def test_a_step_moves_ranges_and_nothing_else() -> None:
    decision = decided()
    plan, record, event = decision.plan, decision.record, decision.event
    assert plan.counts == OFF.counts
    assert OFF.partition.ends[0] < plan.partition.ends[0] <= BEST.ends[0]
    assert plan.id == plan.partition.id != OFF.id
    assert (plan.time, plan.moved) == (OFF.time, OFF.moved)
    assert plan.trial is None
    assert plan.expected_remaining
    assert plan.traffic is not None
    assert plan.explanation.startswith(f"{len(BEST.ends)} stages (up to {plan.partition.ends[0]}")
    assert decision.shown == plan
    assert decision.finding == Finding(True, Reason.PLAN_IN_FORCE, plan.explanation)
    assert event is not None
    assert event.reason is Reason.BOUNDARIES_CHANGED
    assert record is not None
    assert (record.verdict, record.reason, record.plan) == (
        Verdict.BOUNDARIES_CHANGED, Reason.TRAFFIC_SHIFTED, plan.id,
    )  # fmt: skip
    assert record.predicted_gain_percent is not None
    assert record.predicted_gain_percent > 1
    assert record.measured_e2e_ms == LATENCY.mean_ms
    assert record.predicted_e2e_ms is not None


def settled(plan: PlanRecord = OFF) -> PlanRecord:
    """`plan` when no further step is taken."""
    for _ in range(10):
        plan, before = decided(plan).plan, plan
        if plan == before:
            return plan
    raise AssertionError(f"ranges never rest: {plan.partition}")


STAY: dict[str, Callable[[], Decision]] = {
    "instances are on their way": lambda: decided(placed=False),
    "the plan is on trial": lambda: decided(replace(OFF, trial=TRIED)),
    "one that was returned from holds changes back": lambda: decided(
        replace(OFF, penalty=Penalty("bad", NOW + 1, 1))
    ),
    "the user decides": lambda: decided(mode="Advisory"),
    "the user set them": lambda: decided(boundaries=list(OFF.partition.ends[:-1])),
    "there is one stage": lambda: decided(ONE_STAGE),
    "none within reach are better": lambda: decided(settled()),
    "so few requests may have feigned it": lambda: decided(traffic=FEW),
}


@pytest.mark.parametrize("case", STAY)
def test_ranges_stay_because(case: str) -> None:
    decision = STAY[case]()
    assert decision.record is not None
    assert decision.record.verdict in (Verdict.KEPT, Verdict.ADVISED, Verdict.ADOPTED)
    assert decision.record.reason is not Reason.TRAFFIC_SHIFTED


def test_a_plan_that_pays_comes_before_a_step_and_in_a_cooldown_ranges_move() -> None:
    elsewhere = Partition(OFF.partition.ends, (4, 3, 1))
    old, young = planned(elsewhere), planned(elsewhere, moved=NOW - 10)
    adopted = decide(old, TRAFFIC, SPEC, NOW, placed=True)
    assert adopted.record is not None
    assert adopted.record.verdict is Verdict.ADOPTED
    cooling = decide(young, TRAFFIC, SPEC, NOW, placed=True)
    assert cooling.record is not None
    assert cooling.record.reason is Reason.TRAFFIC_SHIFTED
    assert (cooling.plan.counts, cooling.plan.moved) == (young.counts, NOW - 10)


def test_steps_lead_to_the_best_ranges_and_end_there() -> None:
    far = planned(shifted(0.5))
    plan = settled(far)
    assert plan not in (far, decided(far).plan), "it takes more than one step"
    pricing = Pricing(TRAFFIC, SPEC.planning.engine_model, Objective())
    assert pricing.cost(plan.partition) < 1.01 * pricing.cost(BEST)


def step(number: int, plan: str) -> DecisionRecord:
    return DecisionRecord(
        NOW + 60 * number, Verdict.BOUNDARIES_CHANGED, Reason.TRAFFIC_SHIFTED, f"{number}", plan
    )


def kept(number: int, plan: str, reason: Reason = Reason.NOTHING_BETTER) -> DecisionRecord:
    return DecisionRecord(NOW + 60 * number, Verdict.KEPT, reason, "kept", plan)


ADOPTED = DecisionRecord(NOW, Verdict.ADOPTED, Reason.GAIN_ENOUGH, "adopted", "p0")


def history(*records: DecisionRecord) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for record in records:
        entries = remember(entries, record)
    return entries


def test_an_hour_of_steps_is_one_entry_of_the_history() -> None:
    steps = [
        one
        for number in range(1, 61)
        for one in (
            step(number, f"p{number}"),
            step(number, f"p{number}"),
            kept(number, f"p{number}"),
        )
    ]
    entries = history(ADOPTED, kept(0, "p0"), *steps)
    assert [(one["verdict"], one["plan"]) for one in entries] == [
        ("Kept", "p60"), ("BoundariesChanged", "p60"), ("Kept", "p0"), ("Adopted", "p0"),
    ]  # fmt: skip
    newest = entries[1]
    assert (newest["steps"], newest["since"]) == (60, timestamp(NOW + 60))
    assert (newest["time"], newest["message"]) == (timestamp(NOW + 3600), "60")


@pytest.mark.parametrize(
    "between",
    [
        pytest.param(replace(ADOPTED, plan="p1"), id="another plan"),
        pytest.param(kept(1, "p1", Reason.LATENCY_NO_WORSE), id="a verdict on the plan"),
        pytest.param(
            DecisionRecord(NOW, Verdict.BOUNDARIES_CHANGED, Reason.BOUNDARIES_FIXED, "", "p1"),
            id="what the user wanted",
        ),
    ],
)
def test_what_is_no_mere_keeping_parts_steps(between: DecisionRecord) -> None:
    entries = history(step(0, "p0"), between, step(2, "p2"))
    assert [one["plan"] for one in entries] == ["p2", "p1", "p0"]
    assert "steps" not in entries[0]


async def test_the_first_of_many_steps_is_told_as_an_event() -> None:
    api = create_autospec(ClusterApi, instance=True)
    reporter = Reporter(api, "pod")
    object_, told = {**resource(), "status": {}}, list[list[str]]()
    object_["metadata"]["resourceVersion"] = "1"
    for number in range(3):
        event = Finding(True, Reason.BOUNDARIES_CHANGED, "a step")
        seen = replace(observation(), record=step(number, f"p{number}"), event=event)
        api.create.reset_mock()
        await reporter.report(object_, seen, NOW + 60 * number)
        object_["status"] = api.apply_status.call_args.args[2]["status"]
        told.append([call.args[2]["reason"] for call in api.create.call_args_list])
    assert [reasons.count("BoundariesChanged") for reasons in told] == [1, 0, 0]
    assert object_["status"]["decisions"][0]["steps"] == 3


def test_a_step_is_written_down_like_any_plan() -> None:
    plan = decided().plan
    assert PlanRecord.loads(plan.dumps()) == plan
