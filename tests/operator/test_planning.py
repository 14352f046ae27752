"""The rhythm of planning: Prometheus is asked beside the passes, and its newest answer counts."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from cascade_operator.decide import decide
from cascade_operator.decisions import Decision, Verdict
from cascade_operator.faults import PrometheusError
from cascade_operator.planning import Planning
from cascade_operator.plans import PlanRecord, fit, stages_of
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import Latency, Reading
from cascade_planner.partition import Partition
from tests.operator.builders import NOW, approving, service
from tests.operator.test_decide import ONE_STAGE, SPEC, reading

URL = "http://prometheus"


class Reader:
    """Prometheus, as a list of answers; without one it is silent until it is given up."""

    def __init__(self, *answers: Reading | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, str, int]] = []
        self.given_up = 0

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        self.asked.append((url, namespace, service, window_seconds))
        if not self.answers:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.given_up += 1
                raise
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Stand:
    """Planning, and whether it woke its service."""

    def __init__(self, reader: Reader, url: str | None = URL) -> None:
        self.woken = asyncio.Event()
        self.planning = Planning(reader, url, self.woken.set)

    async def plan(self, plan: PlanRecord, now: float, spec: ServiceSpec = SPEC) -> Decision:
        """What a pass is told."""
        return await self.planning.plan(spec, plan, now)

    async def answered(self, plan: PlanRecord, now: float, spec: ServiceSpec = SPEC) -> Decision:
        """What the pass is told that the answer to this one's question wakes."""
        self.woken.clear()
        await self.plan(plan, now, spec)
        async with asyncio.timeout(10):
            await self.woken.wait()
        return await self.plan(plan, now, spec)


async def test_a_pass_does_not_wait_for_prometheus() -> None:
    reader = Reader()
    stand = Stand(reader)
    decision = await stand.plan(ONE_STAGE, NOW)
    assert decision.plan == ONE_STAGE
    assert decision.record is None
    assert stand.planning.metrics.reason is Reason.NOT_ASKED_YET
    await asyncio.sleep(0)
    assert len(reader.asked) == 1
    stand.planning.stop()


async def test_while_an_answer_is_awaited_nothing_is_due() -> None:
    reader = Reader()
    stand = Stand(reader)
    await stand.plan(ONE_STAGE, NOW)
    await stand.plan(ONE_STAGE, NOW + 3600)
    await asyncio.sleep(0)
    assert stand.planning.due_in(NOW + 3600) == float("inf")
    assert len(reader.asked) == 1
    stand.planning.stop()


async def test_prometheus_is_asked_once_per_interval() -> None:
    reader = Reader(reading(), reading())
    stand = Stand(reader)
    plan = (await stand.answered(ONE_STAGE, NOW)).plan
    assert len(plan.stages) >= 2
    assert (await stand.plan(plan, NOW + 30)).plan == plan
    assert len(reader.asked) == 1
    assert stand.planning.due_in(NOW + 30) == 30
    await stand.answered(plan, NOW + 60)
    assert reader.asked == [(URL, "team", "demo", 600)] * 2


async def test_a_clock_that_is_set_back_delays_no_question() -> None:
    reader = Reader(reading(), reading())
    stand = Stand(reader)
    plan = (await stand.answered(ONE_STAGE, NOW)).plan
    await stand.answered(plan, NOW - 3600)
    assert len(reader.asked) == 2


async def test_an_answer_that_comes_when_the_next_one_is_due_counts() -> None:
    stand = Stand(Reader(reading()))
    await stand.plan(ONE_STAGE, NOW)
    async with asyncio.timeout(10):
        await stand.woken.wait()
    late = await stand.plan(ONE_STAGE, NOW + 61)
    assert len(late.plan.stages) >= 2
    stand.planning.stop()


@pytest.mark.parametrize("placed", [True, False])
async def test_ranges_follow_the_traffic_only_where_instances_are_placed(
    placed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []

    def look(*args: Any, placed: bool) -> Decision:
        told.append(placed)
        return decide(*args, placed=placed)

    monkeypatch.setattr("cascade_operator.planning.decide", look)
    stand = Stand(Reader(reading()))
    await stand.plan(ONE_STAGE, NOW)
    async with asyncio.timeout(10):
        await stand.woken.wait()
    await stand.planning.plan(SPEC, ONE_STAGE, NOW, placed=placed)
    assert told == [placed]


async def test_an_event_is_told_once() -> None:
    stand = Stand(Reader(reading()))
    first = await stand.answered(ONE_STAGE, NOW)
    second = await stand.plan(first.plan, NOW + 1)
    assert first.event is not None
    assert second == replace(first, event=None)


async def test_while_prometheus_is_away_the_last_plan_stays_and_its_time_is_said() -> None:
    stand = Stand(Reader(reading(), PrometheusError("refused")))
    plan = (await stand.answered(ONE_STAGE, NOW)).plan
    decision = await stand.answered(plan, NOW + 60)
    assert decision.plan == plan
    assert decision.finding.reason is Reason.PLAN_KEPT
    assert (stand.planning.metrics.holds, stand.planning.metrics.reason) == (
        False,
        Reason.PROMETHEUS_UNREACHABLE,
    )
    assert stand.planning.metrics.message == (
        "refused; the plan in force was made at 2026-02-02T02:40:00Z"
    )


async def test_without_a_prometheus_nothing_is_asked() -> None:
    stand = Stand(Reader(), None)
    decision = await stand.plan(ONE_STAGE, NOW)
    assert decision.plan == ONE_STAGE
    assert stand.planning.metrics.reason is Reason.PROMETHEUS_NOT_CONFIGURED
    assert stand.planning.due_in(NOW) == float("inf")


async def test_what_was_decided_is_said_on_while_the_trial_of_the_plan_goes_on() -> None:
    heard = replace(reading(), latency=Latency(5000.0, 5000.0))
    stand = Stand(Reader(heard))
    first = await stand.answered(ONE_STAGE, NOW)
    assert first.plan.trial is not None
    placed = await stand.planning.plan(SPEC, first.plan, NOW + 1, placed=True)
    assert placed.plan.trial is not None
    assert placed.plan.trial.placed == NOW + 1
    assert placed.shown == placed.plan
    assert placed.record == first.record
    again = await stand.planning.plan(SPEC, placed.plan, NOW + 2, placed=True)
    assert again == placed


def measuring(mean_ms: float = 5000.0) -> Reading:
    return replace(reading(), latency=Latency(mean_ms, 5000.0))


@pytest.mark.parametrize(
    ("changed", "seconds", "compared"),
    [
        pytest.param({"gpuCount": 12}, 60, False, id="other instances served the window before"),
        pytest.param({"gpuCount": 12}, 600, True, id="a window later these did"),
        pytest.param({"routing": {"bias": 1}}, 60, False, id="routers chose otherwise"),
        pytest.param({"planning": {"boundaries": [64]}}, 60, False, id="ranges were others"),
        pytest.param({"planning": {"minGainPercent": 4}}, 60, True, id="who plans notices alone"),
    ],
)
async def test_what_another_service_measured_is_nothing_to_compare_a_plan_with(
    changed: dict[str, Any], seconds: float, compared: bool
) -> None:
    stand = Stand(Reader(measuring(), measuring(), measuring()))
    stubborn = service(planning={"minGainPercent": 99})
    await stand.answered(ONE_STAGE, NOW, stubborn)
    spec = replace(service(**changed), generation=stubborn.generation + 1)
    plan = fit(ONE_STAGE, spec)
    await stand.plan(plan, NOW + 1000, spec)
    heard = await stand.answered(plan, NOW + 1000 + seconds, spec)
    assert heard.record is not None
    assert (heard.record.measured_e2e_ms is not None) is compared


async def test_an_approval_is_not_compared_with_what_was_measured_long_before() -> None:
    advisory = service(planning={"mode": "Advisory"})
    for second in (measuring(), PrometheusError("refused")):
        stand = Stand(Reader(measuring(), second))
        plan = (await stand.answered(ONE_STAGE, NOW, advisory)).plan
        plan = (await stand.answered(plan, NOW + 60, advisory)).plan
        assert plan.proposal is not None
        approval = approving(plan.proposal.id, planning={"mode": "Advisory"})
        approved = (await stand.plan(plan, NOW + 61, approval)).plan
        assert approved.id == plan.proposal.id
        assert (approved.trial is not None) is isinstance(second, Reading)
        stand.planning.stop()


async def test_a_changed_spec_is_planned_at_once_and_what_was_asked_before_is_given_up() -> None:
    reader = Reader()
    stand = Stand(reader, None)
    other = replace(SPEC, prometheus_url="http://other:9090")
    await stand.plan(ONE_STAGE, NOW, other)
    await asyncio.sleep(0)
    reader.answers.append(reading())
    decision = await stand.answered(ONE_STAGE, NOW + 1, replace(other, generation=4))
    assert len(decision.plan.stages) >= 2
    assert [asked[0] for asked in reader.asked] == ["http://other:9090"] * 2
    assert reader.given_up == 1


ADAPTED: dict[str, tuple[dict[str, Any], Verdict, Reason, str]] = {
    "instances were added": (
        {"gpuCount": 12}, Verdict.ADOPTED, Reason.INSTANCES_CHANGED,
        "the plan was for 8 instances, the service has 12",
    ),
    "the model takes longer sequences": (
        {"model": {"name": "m", "maxLength": 32768}}, Verdict.BOUNDARIES_CHANGED,
        Reason.MAX_LENGTH_CHANGED, "the plan ended at 16384 tokens, the model does at 32768",
    ),
    "ranges were set by hand": (
        {"planning": {"boundaries": [1024]}}, Verdict.BOUNDARIES_CHANGED, Reason.BOUNDARIES_FIXED,
        "stages are to end at 1024 tokens, and ended at 512",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ADAPTED)
async def test_what_the_spec_did_to_the_plan_is_recorded_and_told_once_because(case: str) -> None:
    changed, verdict, reason, message = ADAPTED[case]
    stand = Stand(Reader())
    halves = Partition((512, 16384), (4, 4))
    plan = replace(ONE_STAGE, stages=stages_of(halves), explanation="2 stages", gain_percent=9.0)
    spec = service(**changed)
    decision = await stand.plan(plan, NOW, spec)
    record, event = decision.record, decision.event
    assert decision.plan == fit(plan, spec) == decision.shown
    assert record is not None
    assert (record.verdict, record.reason, record.message) == (verdict, reason, message)
    assert record.plan == decision.plan.id
    assert event is not None
    assert (event.reason is Reason.PLAN_ADOPTED) is (verdict is Verdict.ADOPTED)
    assert decision.plan.gain_percent is None, "what was predicted, was of another plan"
    assert decision.plan.explanation.endswith("adapted to the changed spec.")
    later = await stand.plan(decision.plan, NOW + 1, spec)
    assert later == replace(decision, event=None)
    stand.planning.stop()


async def test_a_reading_that_fails_unexpectedly_is_told_like_one_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stand = Stand(Reader(RuntimeError("a defect")))
    await stand.answered(ONE_STAGE, NOW)
    assert stand.planning.metrics.reason is Reason.PROMETHEUS_UNREACHABLE
    assert "a defect" in caplog.text


async def test_a_service_that_goes_leaves_no_question_behind() -> None:
    reader = Reader()
    stand = Stand(reader)
    await stand.plan(ONE_STAGE, NOW)
    await asyncio.sleep(0)
    stand.planning.stop()
    await asyncio.sleep(0)
    assert reader.given_up == 1
    assert not stand.woken.is_set()
