"""Prometheus goes away; the plan stays, and the condition says why."""

import pytest

from cascade_operator.reasons import Reason
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import Platform
from e2e.scenarios.stories import QUICK_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

PROMETHEUS = "cascade-prometheus"
SPLIT_OFFSET = 1600.0
"""Seconds into the trace. Here a split of four instances pays by 11 % or more at this rate."""


def test_without_prometheus_the_last_plan_stays_in_force(
    platform: Platform, namespace: Kubectl
) -> None:
    service = apply_service(
        namespace, "blind", gpuCount=4, planning={**QUICK_PLANNING, "cooldownSeconds": 300}
    )
    service.wait_ready(instances=4)
    with traffic(platform, service, rate=5, duration=120, offset=SPLIT_OFFSET) as load:
        until(
            "a plan of at least two stages",
            lambda: (view := service.view()).settled and len(view.plan_stages) >= 2,
            seconds=75,
            seen=lambda: service.view().status,
        )
        load.stop()
        assert_nothing_lost(load.summary())
    plan = service.view().plan_stages

    platform.scale(PROMETHEUS, 0)
    try:
        condition = until(
            "MetricsAvailable=False",
            lambda: (
                found
                if (found := service.view().conditions["MetricsAvailable"])["status"] == "False"
                else None
            ),
            seconds=60,
            seen=lambda: service.view().conditions,
        )
        assert condition["reason"] == Reason.PROMETHEUS_UNREACHABLE
        assert "plan" in condition["message"]
        with traffic(platform, service, rate=3, duration=8) as load:
            assert_nothing_lost(load.summary())
        view = service.view()
        assert view.is_true("Ready")
        assert view.plan_stages == plan
    finally:
        platform.scale(PROMETHEUS, 1)

    until(
        "MetricsAvailable=True again",
        lambda: service.view().conditions["MetricsAvailable"]["status"] == "True",
        seconds=90,
        seen=lambda: service.view().conditions,
    )
