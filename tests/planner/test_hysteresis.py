"""When a plan is changed, and why not."""

from dataclasses import dataclass

import pytest

from cascade_planner.hysteresis import Decision, Reason, Verdict, decide
from cascade_planner.partition import Partition
from cascade_planner.plan import Plan, PlanOptions, one_stage_plan, solve
from cascade_planner.traffic import Traffic
from cascade_policy.profiles import profile
from tests.planner.conftest import TrafficAt

ENGINE = profile("simulated")
MAX_LENGTH = 16384
ONE_STAGE = Partition((MAX_LENGTH,), (8,))
NOW = 10_000.0
DEFAULT_OPTIONS = PlanOptions()


@dataclass(frozen=True)
class Case:
    """A situation: what runs, what the user wants, and the wanted decision."""

    current: Partition | None
    reason: Reason
    rate: float | None = 10.0
    instances: int = 8
    since_change: float | None = None
    min_gain: float = 5.0
    options: PlanOptions = DEFAULT_OPTIONS


def decide_case(chat_at: TrafficAt, case: Case) -> tuple[Decision, Plan]:
    traffic: Traffic | None = None
    candidate = one_stage_plan(MAX_LENGTH, case.instances)
    if case.rate is not None:
        traffic = chat_at(case.rate, MAX_LENGTH)
        candidate = solve(traffic, ENGINE, case.instances, options=case.options)
    decision = decide(
        case.current,
        candidate,
        traffic,
        ENGINE,
        case.instances,
        now=NOW,
        last_change=None if case.since_change is None else NOW - case.since_change,
        min_gain_percent=case.min_gain,
        cooldown_seconds=300,
        options=case.options,
    )
    return decision, candidate


# At 10 requests/s one stage is far from the best plan, and none of these is overloaded.
STARVED_LONG = Partition((4096, MAX_LENGTH), (7, 1))
STARVED_SHORT = Partition((2048, MAX_LENGTH), (1, 7))


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(None, Reason.FIRST_PLAN), id="no plan yet"),
        pytest.param(Case(ONE_STAGE, Reason.GAIN_ENOUGH), id="a clear gain and no change before"),
        pytest.param(
            Case(ONE_STAGE, Reason.GAIN_ENOUGH, since_change=300), id="the cooldown is just over"
        ),
        pytest.param(
            Case(ONE_STAGE, Reason.INSTANCES_CHANGED, instances=9, since_change=1),
            id="another number of instances, in the cooldown",
        ),
        pytest.param(
            Case(ONE_STAGE, Reason.INSTANCES_CHANGED, instances=9, rate=None),
            id="another number of instances, without traffic",
        ),
        pytest.param(
            Case(Partition((8192,), (8,)), Reason.MAX_LENGTH_CHANGED, since_change=1),
            id="another maximum length",
        ),
        pytest.param(
            Case(
                ONE_STAGE,
                Reason.BOUNDARIES_FIXED,
                options=PlanOptions(boundaries=(3000,)),
                since_change=1,
            ),
            id="boundaries newly set by hand",
        ),
        pytest.param(
            Case(
                Partition((1024, 2048, MAX_LENGTH), (2, 4, 2)),
                Reason.TOO_MANY_STAGES,
                options=PlanOptions(max_stages=2),
                since_change=1,
            ),
            id="maxStages lowered",
        ),
        pytest.param(
            Case(STARVED_SHORT, Reason.CURRENT_OVERLOADED, since_change=1),
            id="a stage that cannot keep up, in the cooldown",
        ),
    ],
)
def test_the_plan_is_changed_for(chat_at: TrafficAt, case: Case) -> None:
    decision, _ = decide_case(chat_at, case)
    assert (decision.verdict, decision.reason) == (Verdict.APPLY, case.reason), decision.message
    assert decision.message


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            Case(ONE_STAGE, Reason.COOLING_DOWN, since_change=299), id="the cooldown is not over"
        ),
        pytest.param(
            Case(ONE_STAGE, Reason.GAIN_TOO_SMALL, min_gain=60), id="less gain than is wanted"
        ),
        pytest.param(
            Case(ONE_STAGE, Reason.GAIN_TOO_SMALL, rate=1.0), id="hardly any load, hardly any gain"
        ),
        pytest.param(Case(STARVED_LONG, Reason.NO_TRAFFIC, rate=None), id="no traffic to judge by"),
    ],
)
def test_the_plan_is_kept_because(chat_at: TrafficAt, case: Case) -> None:
    decision, _ = decide_case(chat_at, case)
    assert (decision.verdict, decision.reason) == (Verdict.KEEP, case.reason), decision.message
    assert decision.message


def shifted(partition: Partition) -> Partition:
    """The same counts behind boundaries that are a fifth longer."""
    ends = (*(end * 6 // 5 for end in partition.ends[:-1]), MAX_LENGTH)
    return Partition(ends, partition.instances)


@pytest.mark.parametrize(
    ("min_gain", "verdict", "reason"),
    [
        pytest.param(5, Verdict.APPLY, Reason.GAIN_ENOUGH, id="change in the cooldown"),
        pytest.param(30, Verdict.KEEP, Reason.GAIN_TOO_SMALL, id="need as much gain as others"),
    ],
)
def test_boundaries_alone_move_no_instance_and(
    chat_at: TrafficAt, min_gain: float, verdict: Verdict, reason: Reason
) -> None:
    best = solve(chat_at(8, MAX_LENGTH), ENGINE, 8).partition
    case = Case(shifted(best), reason, rate=8, since_change=1, min_gain=min_gain)
    decision, candidate = decide_case(chat_at, case)
    assert candidate.partition == best
    assert (decision.verdict, decision.reason) == (verdict, reason), decision.message
    assert decision.moves == 0


def test_the_best_plan_is_left_alone(chat_at: TrafficAt) -> None:
    best = solve(chat_at(10, MAX_LENGTH), ENGINE, 8).partition
    decision, _ = decide_case(chat_at, Case(best, Reason.PLAN_UNCHANGED, min_gain=0))
    assert (decision.verdict, decision.reason) == (Verdict.KEEP, Reason.PLAN_UNCHANGED)


def test_moves_count_against_the_gain(chat_at: TrafficAt) -> None:
    decision, candidate = decide_case(chat_at, Case(ONE_STAGE, Reason.GAIN_ENOUGH))
    assert decision.moves == ONE_STAGE.moves_to(candidate.partition) > 0
    assert 0 < decision.gain_percent < candidate.gain_percent
    # One move costs 5 s of one instance of eight; a plan lasts the cooldown of 300 s.
    expected = candidate.gain_percent - 100 * decision.moves * 5 / 8 / 300
    assert decision.gain_percent == pytest.approx(expected)


def test_an_applied_plan_is_not_changed_back_under_the_same_traffic(chat_at: TrafficAt) -> None:
    current: Partition | None = None
    changes = 0
    for _ in range(5):
        decision, candidate = decide_case(chat_at, Case(current, Reason.GAIN_ENOUGH, min_gain=0))
        if decision.verdict is Verdict.APPLY:
            current = candidate.partition
            changes += 1
    assert changes == 1
