"""Traffic arrives, the operator reads it from Prometheus, and the pods form stages."""

import pytest

from cascade_operator.reasons import Reason
from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.scenarios.stories import (
    AS_RECORDED,
    QUICK_PLANNING,
    apply_service,
    assert_nothing_lost,
    traffic,
)

pytestmark = pytest.mark.cluster

CROSSING_OFFSET = 2600.0
"""Seconds into the trace. Here a split pays in every half minute, by 9 % or more at this rate, and
about one sequence in thirty outgrows its stage; elsewhere plans cut where hardly any does."""
SECONDS = 300
"""Of traffic, at most: it ends when there is a plan and, with hard ranges, a hand-over."""


@pytest.mark.parametrize("boundaries", ["soft", "hard"])
def test_traffic_becomes_a_plan_and_warm_pods_form_its_stages(
    platform: Platform, namespace: Kubectl, boundaries: str
) -> None:
    service = apply_service(
        namespace,
        "planned",
        gpuCount=8,
        planning={**QUICK_PLANNING, "cooldownSeconds": 300},
        routing={"boundaries": boundaries},
    )
    service.wait_ready(instances=8)

    with (
        PodWatch(service) as watch,
        traffic(
            platform,
            service,
            rate=10,
            duration=SECONDS,
            offset=CROSSING_OFFSET,
            longest_answer=AS_RECORDED,
        ) as load,
    ):
        until(
            "a plan of at least two stages, all of them ready",
            lambda: (view := service.view()).settled and len(view.plan_stages) >= 2,
            seconds=85,
            seen=lambda: service.view().status,
        )
        if boundaries == "hard":
            # Where they are soft, who outgrows a range may stay: the price decides.
            load.wait_for("handoversToLongerStages", 1)
        load.stop()
        summary = load.summary()

    assert_nothing_lost(summary)
    assert watch.moves >= 1
    assert (watch.lost, watch.restarted, watch.broken) == ([], [], False)
    assert watch.most_bound == 8
    view = service.view()
    assert view.is_true("MetricsAvailable")
    assert view.is_true("PlanApplied")


def test_advisory_mode_plans_and_moves_nothing(platform: Platform, namespace: Kubectl) -> None:
    service = apply_service(
        namespace, "advised", gpuCount=4, planning={**QUICK_PLANNING, "mode": "Advisory"}
    )
    service.wait_ready(instances=4)

    with PodWatch(service) as watch, traffic(platform, service, rate=5, duration=90) as load:
        until(
            "the advice is in the condition",
            lambda: (
                service.view().conditions.get("PlanApplied", {}).get("reason") == Reason.ADVISORY
            ),
            seconds=60,
            seen=lambda: service.view().conditions,
        )
        load.stop()
        assert_nothing_lost(load.summary())

    assert watch.moves == 0
    assert len({pod.stage for pod in service.pods()}) == 1
