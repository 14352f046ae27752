"""What is recorded of decisions, and that a settled service records nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_operator.decide import _REASONS, decide, keep
from cascade_operator.decisions import KEPT_DECISIONS, DecisionRecord, Verdict, remember
from cascade_operator.finding import Finding
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import NOT_ASKED_YET, Latency, traffic_of
from cascade_planner import hysteresis
from tests.operator.builders import NOW, service
from tests.operator.test_decide import NOTHING, ONE_STAGE, SPEC, traffic

LATENCY = Latency(mean_ms=5200.0, requests=5000.0)


def decided(spec: ServiceSpec = SPEC) -> DecisionRecord:
    decision = decide(ONE_STAGE, traffic(spec), spec, NOW, LATENCY)
    assert decision.record is not None
    return decision.record


def test_an_adopted_plan_is_recorded_with_what_was_measured_and_predicted() -> None:
    decision = decide(ONE_STAGE, traffic(), SPEC, NOW, LATENCY)
    record = decision.record
    assert record is not None
    assert (record.verdict, record.reason, record.plan) == (
        Verdict.ADOPTED, Reason.GAIN_ENOUGH, decision.plan.id,
    )  # fmt: skip
    assert record.predicted_gain_percent is not None
    assert record.predicted_gain_percent > 5
    assert record.measured_e2e_ms == 5200.0
    kept = decide(ONE_STAGE, traffic(), service(planning={"minGainPercent": 99}), NOW, LATENCY)
    assert kept.record is not None
    assert kept.record.predicted_e2e_ms is not None
    assert record.predicted_e2e_ms is not None
    assert record.predicted_e2e_ms < kept.record.predicted_e2e_ms


def test_a_change_of_ranges_alone_has_a_verdict_of_its_own() -> None:
    adopted = decide(ONE_STAGE, traffic(), SPEC, NOW).plan
    (end,) = adopted.partition.ends[:-1]
    for other in (end - 8, end + 8):
        fixed = service(planning={"boundaries": [other]})
        moved = decide(adopted, traffic(fixed), fixed, NOW + 60)
        if moved.plan.counts == adopted.counts:
            break
    assert moved.record is not None
    assert moved.record.verdict is Verdict.BOUNDARIES_CHANGED
    assert moved.record.reason is Reason.BOUNDARIES_FIXED


@pytest.mark.parametrize(
    ("planning", "verdict", "reason"),
    [
        ({"minGainPercent": 99}, Verdict.KEPT, Reason.NOTHING_BETTER),
        ({"maxStages": 1}, Verdict.KEPT, Reason.NOTHING_BETTER),
        ({"mode": "Advisory"}, Verdict.ADVISED, Reason.ADVISORY),
        ({"mode": "Advisory", "maxStages": 1}, Verdict.KEPT, Reason.NOTHING_BETTER),
        ({"boundaries": [1024]}, Verdict.ADOPTED, Reason.BOUNDARIES_FIXED),
    ],
)
def test_every_kind_of_decision_is_recorded(
    planning: dict[str, object], verdict: Verdict, reason: Reason
) -> None:
    record = decided(service(planning=planning))
    assert (record.verdict, record.reason) == (verdict, reason)
    assert record.message


def test_without_traffic_the_record_says_why_the_plan_is_kept() -> None:
    decision = decide(ONE_STAGE, traffic_of(NOTHING, SPEC), SPEC, NOW)
    assert decision.record is not None
    assert (decision.record.verdict, decision.record.reason) == (
        Verdict.KEPT, Reason.METRICS_MISSING,
    )  # fmt: skip


def test_before_prometheus_was_asked_nothing_was_decided() -> None:
    assert keep(ONE_STAGE, NOT_ASKED_YET, SPEC, NOW).record is None
    away = Finding(False, Reason.PROMETHEUS_UNREACHABLE, "refused")
    assert keep(ONE_STAGE, away, SPEC, NOW).record is not None


def test_every_verdict_of_the_planner_on_known_traffic_has_a_reason() -> None:
    never = {hysteresis.Reason.FIRST_PLAN, hysteresis.Reason.NO_TRAFFIC}
    assert set(_REASONS) == set(hysteresis.Reason) - never


def record(number: int = 0, plan: str = "p", verdict: Verdict = Verdict.KEPT) -> DecisionRecord:
    return DecisionRecord(NOW + number, verdict, Reason.NOTHING_BETTER, f"{number}", plan)


def test_a_decision_that_repeats_the_newest_changes_nothing() -> None:
    first = remember([], record())
    assert remember(first, record(60)) == first
    assert remember(first, None) == first


def test_a_decision_that_repeats_an_older_one_is_news() -> None:
    entries = remember(remember(remember([], record()), record(1, "q")), record(2))
    assert [entry["plan"] for entry in entries] == ["p", "q", "p"]


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_the_last_five_changes_stand_newest_first(plans: list[str]) -> None:
    entries: list[dict[str, object]] = []
    for number, plan in enumerate(plans):
        entries = remember(entries, record(number, plan))
    changes = [plan for i, plan in enumerate(plans) if i == 0 or plan != plans[i - 1]]
    assert [entry["plan"] for entry in entries] == changes[::-1][:KEPT_DECISIONS]


def test_what_a_newer_operator_wrote_is_left_as_it_stands() -> None:
    odd = [{"verdict": "Dreamt", "extra": 1}, {}]
    assert remember(odd, record())[1:] == odd
