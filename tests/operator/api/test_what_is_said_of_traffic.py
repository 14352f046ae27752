"""What the operator says of its metrics and of its plans, from what a Prometheus answers.

Services stand side by side, each with a Prometheus of its own: most of the time is waiting.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.conditions import METRICS_AVAILABLE, PLAN_APPLIED, PROGRESSING
from cascade_operator.reasons import Reason
from cascade_planner.histogram import LengthHistogram
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods
from tests.operator.api.told import announced, change, decided, told
from tests.operator.http_server import Answer, Answers, Server, saying, scalar, serving
from tests.operator.test_decide import CHAT, MAX_LENGTH, NOTHING, SECONDS, reading
from tests.operator.test_prometheus_faults import silence

pytestmark = pytest.mark.api_server

QUICK = {"intervalSeconds": 5}


def traffic(requests: int = 5000, lengths: Sequence[int] = CHAT, **changes: Any) -> Answers:
    """Requests within ten minutes, of eight routers that Prometheus scrapes."""
    found = replace(reading(requests, lengths=lengths), series_of_targets=(1,) * 8, **changes)
    return Answers.of(found)


@dataclass(frozen=True)
class Case:
    """What Prometheus answers, and what is said of it."""

    answer: Answer
    type: str
    holds: bool
    reason: Reason


OTHERS = LengthHistogram.of_lengths([100] * 9, SECONDS, MAX_LENGTH)
CASES = {
    # First, for it does not last: what never comes is given up.
    "not-yet": Case(silence, METRICS_AVAILABLE, False, Reason.NOT_ASKED_YET),
    "read": Case(traffic(), METRICS_AVAILABLE, True, Reason.METRICS_READ),
    "stale": Case(
        traffic(age_seconds=900.0), METRICS_AVAILABLE, False, Reason.METRICS_STALE
    ),
    "missing": Case(Answers.of(NOTHING).with_(age=[]), METRICS_AVAILABLE, False,
                    Reason.METRICS_MISSING),
    "failing": Case(saying(500, ""), METRICS_AVAILABLE, False, Reason.PROMETHEUS_FAILED),
    "partial": Case(
        traffic().with_(more={"warnings": ["a store is away"]}), METRICS_AVAILABLE, False,
        Reason.METRICS_INCOMPLETE,
    ),
    "malformed": Case(traffic(finals=OTHERS), METRICS_AVAILABLE, False, Reason.METRICS_MALFORMED),
    "quiet": Case(traffic(0), PLAN_APPLIED, True, Reason.NO_TRAFFIC),
    "nearly-quiet": Case(traffic(20), PLAN_APPLIED, True, Reason.TOO_FEW_REQUESTS),
}  # fmt: skip


@asynccontextmanager
async def prometheus_each(answers: Sequence[Answer]) -> AsyncIterator[list[Server]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(answer)) for answer in answers]


def apply(kubectl: Kubectl, name: str, prometheus: Server, **spec: Any) -> None:
    spec = {"gpuCount": 1, "planning": QUICK, **spec, "prometheus": {"url": prometheus.url}}
    assert kubectl.apply(manifest(kubectl, name, **spec)).returncode == 0


async def test_every_state_of_the_metrics_is_told(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        prometheus_each([case.answer for case in CASES.values()]) as prometheus,
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path),
    ):
        for name, each in zip(CASES, prometheus, strict=True):
            await asyncio.to_thread(apply, kubectl, name, each)
        for name, case in CASES.items():
            message = await told(kubectl, case.type, case.holds, case.reason, name)
            assert message, name


async def test_every_decision_about_a_plan_is_told_with_its_reason(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with (
        prometheus_each([traffic()]) as (prometheus,),
        kubelet(server, kubectl.namespace) as node,
        operator(server, kubectl.namespace, tmp_path),
    ):
        await asyncio.to_thread(apply, kubectl, "demo", prometheus, gpuCount=8)
        await decided(kubectl, Reason.GAIN_ENOUGH)
        await announced(kubectl, Reason.PLAN_ADOPTED)
        await decided(kubectl, Reason.NOTHING_BETTER)
        warm = set(pods(kubectl))
        await told(kubectl, PLAN_APPLIED, True, Reason.PLAN_IN_FORCE)
        prometheus.answer = traffic(lengths=(50, 60, 70, 9000))
        await decided(kubectl, Reason.COOLING_DOWN)
        prometheus.answer = traffic(lengths=(100, 3000, 6000))
        await decided(kubectl, Reason.CURRENT_OVERLOADED)
        prometheus.answer = saying(500, "")
        await told(kubectl, PLAN_APPLIED, True, Reason.PLAN_KEPT)
        prometheus.answer = traffic()
        change(kubectl, planning={"maxStages": 1})
        await decided(kubectl, Reason.TOO_MANY_STAGES)
        kubectl("scale", "csvc", "demo", "--replicas=9")
        await decided(kubectl, Reason.INSTANCES_CHANGED)
        change(kubectl, planning={"boundaries": [12000]})
        entry = await decided(kubectl, Reason.BOUNDARIES_FIXED)
        assert "end at 12000 tokens" in entry["message"]
        await told(kubectl, PROGRESSING, False, Reason.SETTLED)
        # One that was placed a moment ago may go while pods move; none that served does.
        assert not node.killed & warm
        change(kubectl, model={"maxLength": 16000})
        await decided(kubectl, Reason.MAX_LENGTH_CHANGED)


async def test_ranges_that_change_alone_and_a_plan_that_proves_itself_are_told(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    per_second = 2 * 5000 / SECONDS
    busy = replace(traffic(10000), seconds=scalar(5 * per_second), completed=scalar(per_second))
    planning = {**QUICK, "windowSeconds": 31, "cooldownSeconds": 0}
    async with (
        prometheus_each([saying(500, ""), busy]) as (other, prometheus),
        kubelet(server, kubectl.namespace),
        operator(server, kubectl.namespace, tmp_path),
    ):
        await asyncio.to_thread(
            apply, kubectl, "proving", prometheus, gpuCount=16, planning=planning
        )
        by_hand = {**QUICK, "boundaries": [12000]}
        await asyncio.to_thread(apply, kubectl, "ranges", other, gpuCount=8, planning=by_hand)
        await told(kubectl, PROGRESSING, False, Reason.SETTLED, "ranges")
        change(kubectl, "ranges", planning={"boundaries": None})
        other.answer = traffic()
        await announced(kubectl, Reason.BOUNDARIES_CHANGED, "ranges")
        await decided(kubectl, Reason.LATENCY_NO_WORSE, "proving")
