"""From a reading of Prometheus to the plan in force."""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from cascade_operator.decide import decide
from cascade_operator.plans import first_plan
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import Reading, metrics_finding, traffic_of
from cascade_planner.histogram import LengthHistogram
from cascade_planner.traffic import Traffic
from tests.operator.builders import NOW, service

SECONDS = 600.0
MAX_LENGTH = 16384


CHAT = (100, 200, 300, 6000)


def reading(requests: int = 5000, age: float = 5.0, lengths: Sequence[int] = CHAT) -> Reading:
    """Chat with a tail of long prompts, as much as keeps eight simulated engines busy."""
    chance = Random(7)
    prompts, finals = [], []
    for _ in range(requests):
        prompt = chance.choice(lengths)
        prompts.append(prompt)
        finals.append(min(MAX_LENGTH, prompt + chance.randint(50, 500)))
    return Reading(
        LengthHistogram.of_lengths(prompts, SECONDS, MAX_LENGTH),
        LengthHistogram.of_lengths(finals, SECONDS, MAX_LENGTH),
        age,
    )


NOTHING = Reading(LengthHistogram(()), LengthHistogram(()), math.inf)
SPEC = service()
ONE_STAGE = first_plan(SPEC, NOW)


def traffic(spec: ServiceSpec = SPEC) -> Traffic:
    found = traffic_of(reading(), spec)
    assert isinstance(found, Traffic)
    return found


def test_the_decode_counter_decides_what_is_decoded() -> None:
    plain = traffic()
    total = float(plain.decoded.sum()) * 1.5
    counted = replace(reading(), decoded=LengthHistogram(((256.0, total),)))
    found = traffic_of(counted, SPEC)
    assert isinstance(found, Traffic)
    assert float(found.decoded.sum()) == pytest.approx(total)
    assert float(found.decoded.max()) == pytest.approx(total)


def test_a_plan_that_pays_is_adopted() -> None:
    decision = decide(ONE_STAGE, traffic(), SPEC, NOW)
    assert len(decision.plan.stages) >= 2
    assert sum(decision.plan.counts) == 8
    assert decision.plan.gain_percent is not None
    assert decision.plan.gain_percent > 5
    assert decision.plan.moved == NOW
    assert decision.plan.traffic is not None
    assert decision.plan.traffic.requests_per_second == pytest.approx(5000 / SECONDS, rel=1e-4)
    assert decision.event is not None
    assert decision.event.reason is Reason.PLAN_ADOPTED
    assert decision.finding.holds
    assert decision.finding.message == decision.plan.explanation


def test_the_same_traffic_again_changes_nothing() -> None:
    first = decide(ONE_STAGE, traffic(), SPEC, NOW)
    second = decide(first.plan, traffic(), SPEC, NOW + 60)
    assert second.plan == first.plan
    assert second.event is None


def test_within_the_cooldown_the_plan_stays() -> None:
    recent = replace(ONE_STAGE, moved=NOW - 10)
    assert decide(recent, traffic(), SPEC, NOW).plan == recent


def test_a_gain_below_what_is_asked_for_moves_nothing() -> None:
    stubborn = service(planning={"minGainPercent": 99})
    assert decide(ONE_STAGE, traffic(stubborn), stubborn, NOW).plan == ONE_STAGE


def test_advice_is_shown_and_not_applied() -> None:
    advisory = service(planning={"mode": "Advisory"})
    decision = decide(ONE_STAGE, traffic(advisory), advisory, NOW)
    assert decision.plan == replace(ONE_STAGE, proposal=decision.shown)
    assert len(decision.shown.stages) >= 2
    assert (decision.finding.holds, decision.finding.reason) == (False, Reason.ADVISORY)
    assert decision.finding.message.startswith("would change to 2 stages")
    assert decision.event is None


def test_boundaries_by_hand_are_kept() -> None:
    fixed = service(planning={"boundaries": [1024, 4096]})
    decision = decide(first_plan(fixed, NOW), traffic(fixed), fixed, NOW)
    assert decision.plan.partition.ends == (1024, 4096, MAX_LENGTH)


@pytest.mark.parametrize(
    ("case", "found", "available", "metrics", "applied"),
    [
        ("no series", NOTHING, False, Reason.METRICS_MISSING, Reason.METRICS_MISSING),
        ("nothing new", reading(age=900), False, Reason.METRICS_STALE, Reason.METRICS_STALE),
        ("no router scraped", reading(age=math.inf), False, Reason.METRICS_STALE,
         Reason.METRICS_STALE),
        ("no request", reading(0), True, Reason.METRICS_READ, Reason.NO_TRAFFIC),
        ("few requests", reading(20), True, Reason.METRICS_READ, Reason.TOO_FEW_REQUESTS),
        ("prompts without finals",
         replace(reading(), finals=LengthHistogram.of_lengths([100] * 9, SECONDS, MAX_LENGTH)),
         False, Reason.METRICS_MALFORMED, Reason.METRICS_MALFORMED),
    ],
)  # fmt: skip
def test_without_usable_traffic_the_plan_stays(
    case: str, found: Reading, available: bool, metrics: Reason, applied: Reason
) -> None:
    problem = traffic_of(found, SPEC)
    finding = metrics_finding(problem)
    assert (finding.holds, finding.reason) == (available, metrics), case
    decision = decide(ONE_STAGE, problem, SPEC, NOW)
    assert decision.plan == ONE_STAGE
    assert decision.finding.reason is applied
    assert decision.finding.holds
