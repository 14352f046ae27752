"""The review of an adopted plan: what leads back, what never does, and that nothing flaps."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_operator.decide import decide
from cascade_operator.decisions import Decision, Verdict
from cascade_operator.outcome_review import (
    ENOUGH_REQUESTS,
    LONGEST_COOLDOWN_SECONDS,
    LONGEST_TRIAL_WINDOWS,
    NOISE,
    WORSE,
    cooldown_after,
    followed,
    limit,
    on_trial,
    review,
    worth_of,
)
from cascade_operator.plans import Penalty, PlanRecord, Trial, first_plan, stages_of
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import Latency
from cascade_operator.weighing import forecast
from cascade_planner.partition import Partition
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem
from tests.operator.builders import NOW, service
from tests.operator.test_decide import MAX_LENGTH, ONE_STAGE, SPEC, traffic

WINDOW = SPEC.planning.window_seconds
TRAFFIC = traffic()
MANY = 5000.0
TWO = replace(
    ONE_STAGE,
    id="two",
    stages=stages_of(Partition((1024, MAX_LENGTH), (4, 4))),
    time=NOW,
    moved=NOW,
)


def predicted(partition: Partition, of: Traffic = TRAFFIC) -> float:
    return forecast(of, SPEC, partition).e2e_ms


def tried(worth: float = 1.0, **over: object) -> PlanRecord:
    """A plan of two stages that took the place of one stage, all placed at NOW."""
    trial = Trial(
        former=ONE_STAGE, worth=worth, variance=0.0, generation=SPEC.generation, began=NOW,
        placed=NOW,
    )  # fmt: skip
    return replace(TWO, trial=replace(trial, **over))  # type: ignore[arg-type]


def measured(worth: float, requests: float = MANY) -> Latency:
    """What is measured in a window of such worth."""
    return Latency(worth * predicted(ONE_STAGE.partition), requests)


def windows(plan: PlanRecord, *worths: float, every: float = WINDOW) -> Decision | PlanRecord:
    """The decision that windows of such worth lead to, or the plan that is still on trial."""
    now = NOW
    for worth in worths:
        now += every
        plan, decision = review(plan, TRAFFIC, measured(worth), SPEC, now)
        if decision is not None:
            return decision
    return plan


def test_two_clearly_worse_windows_lead_back() -> None:
    decision = windows(tried(), 1.3, 1.3)
    assert isinstance(decision, Decision)
    assert decision.plan.partition == ONE_STAGE.partition
    assert decision.plan.trial is None
    assert decision.event is not None
    assert (decision.event.holds, decision.event.reason) == (False, Reason.PLAN_RETURNED)
    record = decision.record
    assert record is not None
    assert (record.verdict, record.reason) == (Verdict.RETURNED, Reason.LATENCY_WORSE)
    assert record.worth_before == 1.0
    assert record.worth_after == pytest.approx(1.3)
    assert decision.plan.time == decision.plan.moved == NOW + 2 * WINDOW
    penalty = decision.plan.penalty
    assert penalty is not None
    assert (penalty.plan, penalty.returns) == ("two", 1)
    assert penalty.until == NOW + 2 * WINDOW + cooldown_after(1, SPEC)


def test_two_windows_that_are_not_end_the_trial() -> None:
    decision = windows(tried(), 1.3, 1.1, 0.9)
    assert isinstance(decision, Decision)
    assert (decision.plan.id, decision.plan.trial) == ("two", None)
    assert decision.event is None
    assert decision.record is not None
    assert (decision.record.verdict, decision.record.reason) == (
        Verdict.KEPT, Reason.LATENCY_NO_WORSE,
    )  # fmt: skip


STILL_ON_TRIAL: dict[str, tuple[PlanRecord, tuple[float, ...], float]] = {
    "one worse window": (tried(), (1.3,), WINDOW),
    "worse, not worse, worse": (tried(), (1.3, 1.0, 1.3), WINDOW),
    "windows that overlap": (tried(), (1.3, 1.3, 1.3), WINDOW / 4),
    "instances that are not placed": (tried(placed=0.0), (1.3, 1.3), WINDOW),
    "as bad as before": (tried(worth=1.3), (1.3, 1.4), WINDOW),
}


@pytest.mark.parametrize("case", STILL_ON_TRIAL)
def test_nobody_is_returned_from_by(case: str) -> None:
    plan, worths, every = STILL_ON_TRIAL[case]
    left = windows(plan, *worths, every=every)
    if isinstance(left, Decision):
        assert left.record is not None
        assert left.record.verdict is Verdict.KEPT
    else:
        assert left.partition == TWO.partition


@pytest.mark.parametrize("latency", [None, measured(9.0, ENOUGH_REQUESTS - 1), Latency(1.0, 0.0)])
def test_a_window_with_too_little_in_it_is_no_reading(latency: Latency | None) -> None:
    plan = tried(worse=1)
    assert review(plan, TRAFFIC, latency, SPEC, NOW + 2 * WINDOW) == (plan, None)


def test_a_load_beyond_what_the_model_knows_is_no_reading() -> None:
    flood = replace(
        TRAFFIC,
        prompts_above=TRAFFIC.prompts_above * 3,
        finals_above=TRAFFIC.finals_above * 3,
        decoded=TRAFFIC.decoded * 3,
    )
    plan = tried(worse=1)
    assert review(plan, flood, measured(99.0), SPEC, NOW + WINDOW) == (plan, None)


def test_a_plan_that_is_on_no_trial_is_not_reviewed() -> None:
    assert review(TWO, TRAFFIC, measured(9.0), SPEC, NOW + WINDOW) == (TWO, None)


@settings(max_examples=50, deadline=None)
@given(
    bias=st.floats(0.3, 3.0),
    factor=st.floats(0.5, 1.3),
    gain=st.floats(0.0, 0.4),
)
def test_neither_a_wrong_model_nor_other_traffic_leads_back(
    bias: float, factor: float, gain: float
) -> None:
    """The model errs by `bias`, the rate changes by `factor`, the plan saves `gain`."""
    later = replace(
        TRAFFIC,
        prompts_above=TRAFFIC.prompts_above * factor,
        finals_above=TRAFFIC.finals_above * factor,
        decoded=TRAFFIC.decoded * factor,
    )
    before = worth_of(
        TRAFFIC, Latency(bias * predicted(ONE_STAGE.partition), MANY), SPEC, ONE_STAGE.partition
    )
    assert before is not None
    plan = tried(worth=before.ratio, variance=before.variance)
    took = Latency(bias * (1 - gain) * predicted(ONE_STAGE.partition, later), MANY)
    for number in (1, 2):
        plan, decision = review(plan, later, took, SPEC, NOW + number * WINDOW)
        assert (
            decision is None or decision.record is None or (decision.record.verdict is Verdict.KEPT)
        )


@pytest.mark.parametrize("requests", [500, 2000, 20000])
def test_chance_leads_back_less_than_once_in_a_hundred_plans(requests: int) -> None:
    chance = Random(requests)
    load = forecast(TRAFFIC, SPEC, ONE_STAGE.partition).load
    deviation = NOISE / (1 - load) / math.sqrt(requests)
    returns = 0
    for _ in range(1000):
        drawn = [math.exp(chance.gauss(0, deviation)) for _ in range(12)]
        plan = tried(worth=drawn.pop(), variance=deviation**2)
        now, decision = NOW, None
        while drawn and decision is None:
            now += WINDOW
            latency = measured(drawn.pop(), requests)
            plan, decision = review(plan, TRAFFIC, latency, SPEC, now)
        returns += decision is not None and decision.event is not None
    assert returns <= 10


@given(requests=st.floats(ENOUGH_REQUESTS, 1e7), worth=st.floats(0.1, 10))
def test_the_limit_is_never_below_what_counts_as_worse(requests: float, worth: float) -> None:
    after = worth_of(TRAFFIC, measured(worth, requests), SPEC, ONE_STAGE.partition)
    assert after is not None
    trial = tried(worth=worth, variance=after.variance).trial
    assert trial is not None
    assert WORSE <= limit(trial, after) < 3


@given(returns=st.integers(1, 10_000), cooldown=st.integers(0, 86_400))
def test_the_cooldown_doubles_with_each_return_up_to_a_bound(returns: int, cooldown: int) -> None:
    spec = replace(SPEC, planning=replace(SPEC.planning, cooldown_seconds=cooldown))
    now, after = cooldown_after(returns, spec), cooldown_after(returns + 1, spec)
    assert 2 * WINDOW <= now <= max(LONGEST_COOLDOWN_SECONDS, cooldown)
    assert after == min(2 * now, max(LONGEST_COOLDOWN_SECONDS, cooldown))


def test_the_window_begins_when_all_are_placed_and_anew_when_one_is_lost() -> None:
    plan = tried(placed=0.0)
    placed = followed(plan, True, SPEC, NOW + 5)
    assert placed.trial is not None
    assert placed.trial.placed == NOW + 5
    assert followed(placed, True, SPEC, NOW + 50) == placed
    again = replace(placed, trial=replace(placed.trial, read=NOW + 700, worse=1))
    lost = followed(again, False, SPEC, NOW + 800)
    assert lost.trial is not None
    assert (lost.trial.placed, lost.trial.read, lost.trial.worse) == (0.0, 0.0, 0)
    assert followed(lost, False, SPEC, NOW + 900) == lost


def test_a_penalty_ends_in_time_where_a_clock_was_set_back_or_the_cooldown_lowered() -> None:
    penalty = Penalty("two", NOW + cooldown_after(2, SPEC), 2)
    plan = replace(ONE_STAGE, penalty=penalty)
    assert followed(plan, True, SPEC, NOW) == plan
    assert followed(plan, True, SPEC, NOW + 1) == plan
    for now, spec in ((NOW - 1e6, SPEC), (NOW, service(planning={"windowSeconds": 30}))):
        limited = followed(plan, True, spec, now).penalty
        assert limited is not None
        assert limited.until == now + cooldown_after(2, spec) < penalty.until


def test_a_changed_spec_and_old_age_end_a_trial_without_a_verdict() -> None:
    other = replace(SPEC, generation=SPEC.generation + 1)
    assert followed(tried(), True, other, NOW + 1).trial is None
    late = NOW + LONGEST_TRIAL_WINDOWS * WINDOW
    assert followed(tried(), True, SPEC, late).trial is not None
    assert followed(tried(), True, SPEC, late + 1).trial is None


def test_a_plan_is_compared_with_the_last_one_that_proved_itself() -> None:
    heard = (TRAFFIC, measured(1.0))
    later = NOW + 60
    three = replace(
        TWO, id="three", stages=stages_of(Partition((512, 1024, MAX_LENGTH), (1, 3, 4)))
    )
    plan = on_trial(three, tried(worth=1.7, worse=1), heard, SPEC, later)
    assert plan.trial is not None
    assert plan.trial.former == ONE_STAGE
    assert (plan.trial.worth, plan.trial.placed, plan.trial.worse) == (1.7, 0.0, 0)
    assert on_trial(ONE_STAGE, tried(), heard, SPEC, later).trial is None


YARDSTICKS: dict[str, tuple[PlanRecord, Latency | None, float, bool]] = {
    "the first plan has had the window for itself": (ONE_STAGE, measured(1.0), NOW, True),
    "so has one that is old enough": (
        replace(TWO, traffic=None), measured(1.0), NOW + WINDOW, True,
    ),
    "nothing was measured": (ONE_STAGE, None, NOW, False),
    "too little was measured": (ONE_STAGE, measured(1.0, 10), NOW, False),
}  # fmt: skip


@pytest.mark.parametrize("case", YARDSTICKS)
def test_a_trial_needs_something_to_compare_with(case: str) -> None:
    former, latency, now, expected = YARDSTICKS[case]
    plan = on_trial(replace(TWO, id="new", stages=tried().stages), former, (TRAFFIC, latency),
                    SPEC, now)  # fmt: skip
    assert (plan.trial is not None) is expected
    assert on_trial(TWO, former, None, SPEC, now).trial is None


@dataclass
class Service:
    """A service under steady traffic, minute by minute, with a new operator for each.

    `truth` is what requests take under a partition, over what is predicted for it.
    """

    truth: Callable[[Partition], float]
    spec: ServiceSpec = SPEC
    traffic: Traffic | TrafficProblem = field(default_factory=lambda: TRAFFIC)
    step: float = 300.0
    now: float = NOW
    plan: PlanRecord = ONE_STAGE
    told: list[tuple[float, Decision]] = field(default_factory=list)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += self.step
            latency = None
            if isinstance(self.traffic, Traffic):
                took = self.truth(self.plan.partition) * predicted(
                    self.plan.partition, self.traffic
                )
                latency = Latency(took, MANY)
            plan = followed(self.plan, True, self.spec, self.now)
            decision = decide(plan, self.traffic, self.spec, self.now, latency)
            self.told.append((self.now, decision))
            restored = PlanRecord.loads(decision.plan.dumps())
            assert restored == decision.plan
            self.plan = restored

    def events(self, reason: Reason) -> list[float]:
        return [now for now, one in self.told if one.event and one.event.reason is reason]


def bad_unless_one_stage(partition: Partition) -> float:
    return 1.0 if len(partition.ends) == 1 else 2.0


def test_a_plan_that_is_worse_in_truth_is_left_and_comes_back_ever_more_rarely() -> None:
    bad = Service(bad_unless_one_stage)
    bad.run(2 * 86_400)
    adopted, returned = bad.events(Reason.PLAN_ADOPTED), bad.events(Reason.PLAN_RETURNED)
    assert len(returned) >= 3
    assert 0 <= len(adopted) - len(returned) <= 1
    waits = [next((then - now for then in adopted if then > now), None) for now in returned]
    expected = [cooldown_after(number + 1, SPEC) for number in range(len(returned))]
    for wait, least in zip(waits, expected, strict=True):
        assert wait is None or least <= wait <= least + bad.step
    assert expected == sorted(expected)
    times = sorted([*adopted, *returned])
    assert all(later - earlier >= WINDOW for earlier, later in pairwise(times))


def test_a_plan_that_is_as_good_as_predicted_is_adopted_once_and_stays() -> None:
    good = Service(lambda _: 1.4)
    good.run(6 * 3600)
    assert len(good.events(Reason.PLAN_ADOPTED)) == 1
    assert good.events(Reason.PLAN_RETURNED) == []
    assert good.plan.trial is None
    verdicts = [one.record.reason for _, one in good.told if one.record is not None]
    assert verdicts.count(Reason.LATENCY_NO_WORSE) == 1


def test_traffic_that_vanishes_leads_nowhere() -> None:
    gone = Service(bad_unless_one_stage)
    gone.run(600)
    adopted = gone.plan
    assert adopted.trial is not None
    gone.traffic = TrafficProblem(ProblemReason.NO_TRAFFIC, "no request")
    gone.run(LONGEST_TRIAL_WINDOWS * WINDOW + 3600)
    assert gone.plan == replace(adopted, trial=None)
    assert gone.events(Reason.PLAN_RETURNED) == []
    gone.traffic = TRAFFIC
    gone.run(3600)
    assert gone.events(Reason.PLAN_RETURNED) == []


def test_ranges_alone_are_reviewed_alike() -> None:
    hand_made = service(planning={"boundaries": [1024]})
    plan = replace(first_plan(hand_made, NOW), traffic=None)
    took = predicted(plan.partition)
    adopted = replace(plan, id="ranges", stages=stages_of(Partition((512, MAX_LENGTH), (4, 4))))
    adopted = on_trial(adopted, plan, (TRAFFIC, Latency(took, MANY)), SPEC, NOW)
    now, returned = NOW, None
    adopted = followed(adopted, True, SPEC, NOW)
    for _ in range(2):
        now += WINDOW
        adopted, returned = review(adopted, TRAFFIC, Latency(2 * took, MANY), SPEC, now)
    assert returned is not None
    assert returned.plan.partition == plan.partition
    assert returned.plan.moved == plan.moved, "no instance moved, so no cooldown of moves begins"


def test_what_the_user_changed_is_on_no_trial() -> None:
    fixed = service(planning={"boundaries": [512]})
    took = Latency(predicted(ONE_STAGE.partition), MANY)
    decision = decide(ONE_STAGE, traffic(fixed), fixed, NOW + WINDOW, took)
    assert decision.plan.partition.ends == (512, MAX_LENGTH)
    assert decision.plan.trial is None
    chosen = decide(ONE_STAGE, TRAFFIC, SPEC, NOW + WINDOW, took)
    assert chosen.plan.trial is not None


def test_in_advisory_mode_nothing_is_proposed_until_the_cooldown_of_a_return_is_over() -> None:
    advisory = service(planning={"mode": "Advisory"})
    first = decide(tried(), TRAFFIC, advisory, NOW + WINDOW, measured(2.0))
    decision = decide(first.plan, TRAFFIC, advisory, NOW + 2 * WINDOW, measured(2.0))
    plan = decision.plan
    assert decision.event is not None
    assert decision.finding.reason is Reason.ADVISORY
    assert plan.partition == ONE_STAGE.partition
    soon = decide(plan, TRAFFIC, advisory, NOW + 3 * WINDOW, measured(1.0))
    assert soon.plan.proposal is None
    assert soon.record is not None
    assert soon.record.reason is Reason.COOLING_DOWN
    assert "was returned from" in soon.finding.message
    assert plan.penalty is not None
    late = decide(plan, TRAFFIC, advisory, plan.penalty.until, measured(1.0))
    assert late.plan.proposal is not None
