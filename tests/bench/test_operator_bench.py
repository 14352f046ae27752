"""The bench of the operator at scale: its traffic, its nodes, and how its figures are judged."""

import math
from typing import Any

import pytest

from cascade_operator.health import Vitals as OperatorVitals
from cascade_policy import names
from e2e.bench.operator_bench import figures
from e2e.bench.operator_bench.experiments import is_settled
from e2e.bench.operator_bench.figures import Outcome, Phase, phase_of, quantile_ms, vitals_of
from e2e.bench.operator_bench.goals import LARGE, REPLAN, REST, SETTLED, START, judged
from e2e.bench.operator_bench.goals import figures as figures_of
from e2e.bench.operator_bench.nodes import Act, next_act
from e2e.bench.operator_bench.prometheus import Prometheus
from e2e.bench.operator_bench.traffic import counts, mix, shares

STATUS = "Name:\tx\nVmHWM:\t  200000 kB\nVmRSS:\t  100000 kB\n"
STAT = "7 (a b) S " + " ".join(str(number) for number in range(4, 30))


def vitals(passes: list[float], **requests: int) -> figures.Vitals:
    """What the operator's own page says of these passes and requests."""
    one = OperatorVitals(leader=True)
    for seconds in passes:
        one.count_pass(seconds)
    one.count_requests(lambda: requests)
    return vitals_of(one.metrics(), STATUS, STAT)


def test_the_page_of_the_operator_is_read_as_it_is_written() -> None:
    seen = vitals([0.02, 0.2, 99.0], get=5, patch=2)
    assert (seen.leader, seen.requests, seen.writes) == (True, {"get": 5, "patch": 2}, 2)
    assert (seen.passes[0.02], seen.passes[0.2], seen.passes[math.inf]) == (1, 2, 3)
    assert (seen.rss_mb, seen.peak_mb) == (102.4, 204.8)
    assert seen.cpu_seconds == pytest.approx((14 + 15) / 100)


def test_a_phase_is_what_came_between_two_looks() -> None:
    before, after = vitals([9.0], get=5), vitals([9.0, *[0.02] * 98, 0.2, 0.2], get=35, patch=1)
    phase = phase_of(REST, 30.0, before, after, 4)
    assert (phase.passes, phase.writes, phase.written) == (100, 1, 4)
    assert phase.requests_per_minute == {"get": 60.0, "patch": 2.0}
    assert phase.all_requests_per_minute == 62.0
    assert phase.pass_p50_ms == pytest.approx(15.1, abs=0.1)
    assert 150 < phase.pass_p99_ms <= 200


@pytest.mark.parametrize(
    ("counted", "part", "want"),
    [
        ({}, 0.5, 0.0),
        ({0.1: 0, math.inf: 0}, 0.5, 0.0),
        ({0.1: 10, 0.2: 20, math.inf: 20}, 0.5, 100.0),
        ({0.1: 10, 0.2: 20, math.inf: 20}, 0.75, 150.0),
        ({0.1: 0, 0.2: 1, math.inf: 9}, 0.99, 200.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(
    counted: dict[float, int], part: float, want: float
) -> None:
    assert quantile_ms(counted, part) == pytest.approx(want)


def test_writes_are_those_that_succeeded_on_objects_of_services() -> None:
    page = "\n".join(
        f'apiserver_request_total{{code="{code}",resource="{resource}",verb="{verb}"}} 3'
        for code, resource, verb in (
            ("200", "pods", "PATCH"),
            ("201", "events", "POST"),
            ("409", "pods", "PATCH"),
            ("200", "leases", "PUT"),
            ("200", "pods", "LIST"),
        )
    )
    assert figures.writes_seen(page) == 6


def pod(**over: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {}, "status": {}, **over}


@pytest.mark.parametrize(
    ("one", "act"),
    [
        (pod(spec={"schedulingGates": [{"name": "x"}]}), None),
        (pod(), Act.BIND),
        (pod(spec={"nodeName": "n"}), Act.START),
        (
            pod(
                spec={"nodeName": "n"},
                status={"conditions": [{"type": "Ready", "status": "True"}]},
            ),
            None,
        ),
        (pod(metadata={"deletionTimestamp": "now"}), Act.END),
    ],
)
def test_nodes_run_pods_that_are_not_gated(one: dict[str, Any], act: Act | None) -> None:
    assert next_act(one) is act


def test_the_second_traffic_moves_as_many_instances_as_asked_for() -> None:
    for share, wanted in zip(shares(40, (20, 28)), (20, 28), strict=True):
        first, second = counts(mix(share, 40), 40)
        assert first + second == 40
        assert abs(first - wanted) <= 1


def test_prometheus_answers_for_its_services_alone() -> None:
    served = Prometheus()
    served.set({"service-0": mix(0.3, 20)})
    query = f'sum by (le) (rate({names.METRIC_PROMPT_TOKENS}_bucket{{service="%s"}}[600s]))'
    rows = list(served._vector(query % "service-0"))
    assert rows[-1]["metric"] == {"le": "+Inf"}
    assert float(rows[-1]["value"][1]) > 0
    assert list(served._vector(query % "service-1")) == []


def test_a_service_is_settled_when_its_status_says_so() -> None:
    row = {"ready": 2, "desired": 2, "moving": 0}
    settled = {"conditions": [{"type": "Progressing", "reason": "Settled"}], "stages": [row]}
    assert is_settled({"status": settled})
    assert not is_settled({"status": {**settled, "stages": [{**row, "moving": 1}]}})
    assert not is_settled({"status": {**settled, "stages": [{**row, "ready": 1}]}})
    assert not is_settled({})


def phase(name: str, **over: Any) -> Phase:
    passes = vitals([0.1] * 100)
    return phase_of(name, 60.0, vitals([]), passes, over.get("written", 0))


def outcomes(written: int = 0) -> list[Outcome]:
    large = [phase(START), phase(REST), phase(REPLAN)]
    return [
        Outcome(LARGE, 1, 1000, large, ended=0, place_seconds=50.0),
        Outcome(SETTLED, 20, 4, [phase(START), phase(REST, written=written)], ended=0),
    ]


def test_the_goals_are_judged_by_the_figures() -> None:
    found = figures_of(outcomes())
    assert found["rssMb"] == 204.8
    assert (found["placeSeconds"], found["settledWrites"]) == (50.0, 0)
    assert 75 < found["passMsP99"] <= 100
    assert found["settledRequestsPerMinute"] == 0
    assert "pass_counts" not in found["experiments"][0]["phases"][0]
    assert all(goal.met for goal in judged(found))
    missed = [goal.what for goal in judged(figures_of(outcomes(written=1))) if not goal.met]
    assert missed == ["writes while settled"]


def test_figures_of_what_did_not_run_are_left_out() -> None:
    found = figures_of(outcomes()[1:])
    assert "placeSeconds" not in found
    assert "passMsP99" not in found
