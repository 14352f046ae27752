"""Whatever the user, the traffic and the clock do: a plan that can be run, and a status that can be
written."""

import asyncio
import json
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_operator.decisions import Decision, Verdict, remember
from cascade_operator.faults import PrometheusError
from cascade_operator.planning import Planning
from cascade_operator.plans import PlanRecord, first_plan, fit
from cascade_operator.reasons import Reason
from cascade_operator.spec import Mode, ServiceSpec
from cascade_operator.traffic import Latency, Reading
from cascade_planner.histogram import LengthHistogram
from tests.operator.builders import NOW, approving
from tests.operator.test_planning import URL

PLANNINGS = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["Active", "Active", "Advisory", "Paused"]),
        "minGainPercent": st.sampled_from([0, 5, 100]),
        "maxStages": st.sampled_from([1, 2, 8]),
        "cooldownSeconds": st.sampled_from([0, 300]),
    },
    optional={"boundaries": st.sampled_from([[64], [512, 4096]])},
)
SPECS = st.fixed_dictionaries(
    {
        "planning": PLANNINGS,
        "gpuCount": st.sampled_from([4, 8, 12]),
        "model": st.sampled_from([{"name": "m", "maxLength": n} for n in (8192, 16384)]),
    }
)
ANSWERS = st.one_of(
    st.just(PrometheusError("refused")),
    st.tuples(st.sampled_from([20, 2000]), st.sampled_from([0.5, 1.0, 3.0]),
              st.sampled_from([None, 0.5, 1.0, 3.0])),
)  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("spec"), SPECS),
    st.tuples(st.just("answer"), ANSWERS),
    st.tuples(st.just("answer"), ANSWERS),
    st.tuples(st.just("clock"), st.sampled_from([60.0, 700.0, -3600.0, 90_000.0])),
    st.tuples(st.just("placed"), st.booleans()),
    st.tuples(st.just("approve"), st.sampled_from(["proposed", "proposed", "odd", ""])),
    st.tuples(st.just("restart"), st.none()),
)


@cache
def heard(requests: int, growth: float, seconds: float | None, max_length: int) -> Reading:
    """Chat of some length and rate, and how long its requests took."""
    chance = Random(requests)
    prompts = [
        min(max_length - 1, int(growth * 2 ** chance.uniform(4, 12))) for _ in range(requests)
    ]
    finals = [min(max_length, prompt + chance.randint(1, 500)) for prompt in prompts]
    return Reading(
        LengthHistogram.of_lengths(prompts, 100.0, max_length),
        LengthHistogram.of_lengths(finals, 100.0, max_length),
        5.0,
        latency=None if seconds is None else Latency(1000 * seconds, 6.0 * requests),
    )


class World:
    """A service and its operator, pass by pass."""

    def __init__(self) -> None:
        self.answer: Any = PrometheusError("refused")
        self.changes: dict[str, Any] = {}
        self.generation, self.approval, self.placed, self.now = 1, "", True, NOW
        self.decisions: list[dict[str, Any]] = []
        self.plan = first_plan(self.spec, self.now)
        self.planning = Planning(self, URL, lambda: None)

    @property
    def spec(self) -> ServiceSpec:
        return replace(approving(self.approval, **self.changes), generation=self.generation)

    async def read(self, url: str, namespace: str, service: str, window_seconds: int) -> Reading:
        del url, namespace, service, window_seconds
        if isinstance(self.answer, PrometheusError):
            raise self.answer
        return heard(*self.answer, self.spec.max_length)

    async def take(self, step: str, what: Any) -> None:
        if step == "spec":
            self.changes, self.generation = what, self.generation + 1
        elif step == "answer":
            self.answer, self.now = what, self.now + 60
        elif step == "clock":
            self.now += what
        elif step == "placed":
            self.placed = what
        elif step == "approve":
            proposal = self.plan.proposal
            self.approval = proposal.id if proposal and what == "proposed" else what
        else:
            self.planning.stop()
            self.planning = Planning(self, URL, lambda: None)
        for _ in range(2):
            await self.look()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def look(self) -> None:
        before = self.plan.as_of(self.now)
        decision = await self.planning.plan(self.spec, before, self.now, placed=self.placed)
        check(before, decision, self.spec, self.placed)
        self.decisions = remember(self.decisions, decision.record)
        assert len(json.dumps(self.decisions, allow_nan=False)) < 10_000
        restored = PlanRecord.loads(decision.plan.dumps())
        assert restored == decision.plan
        self.plan = restored


def check(before: PlanRecord, decision: Decision, spec: ServiceSpec, placed: bool) -> None:
    """What holds in each pass."""
    plan, fitted, record = decision.plan, fit(before, spec), decision.record
    assert sum(plan.counts) == spec.instances
    assert plan.partition.max_length == spec.max_length
    if spec.planning.mode is not Mode.ADVISORY:
        assert plan.proposal is None
    if spec.planning.mode is Mode.PAUSED:
        assert plan.partition == fitted.partition
    if spec.planning.mode is Mode.ACTIVE and spec.planning.boundaries:
        assert plan.partition.ends[:-1] in (spec.planning.boundaries, fitted.partition.ends[:-1])
    changed = plan.partition != before.partition
    assert changed <= (record is not None), "no plan changes without a record"
    assert changed <= (decision.event is not None)
    if changed:
        assert record is not None
        assert record.plan == plan.id
        assert (record.verdict is Verdict.ADOPTED) <= (plan.counts != before.counts)
        if record.reason is Reason.TRAFFIC_SHIFTED:
            assert placed
            assert spec.planning.mode is Mode.ACTIVE
            assert (plan.counts, plan.moved, plan.trial) == (before.counts, before.moved, None)
        if spec.planning.mode is Mode.ADVISORY and plan.partition != fitted.partition:
            assert record.reason in (Reason.APPROVED, Reason.LATENCY_WORSE)


@settings(deadline=None, max_examples=30)
@given(st.lists(STEPS, min_size=5, max_size=30))
def test_each_pass_of_a_service_leaves_a_plan_that_can_be_run(
    steps: list[tuple[str, Any]],
) -> None:
    async def live() -> None:
        world = World()
        try:
            for step, what in steps:
                await world.take(step, what)
        finally:
            world.planning.stop()
            await asyncio.sleep(0)

    asyncio.run(live())
