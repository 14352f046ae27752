"""Advisory mode: what is proposed stays so until it is approved, or clearly bettered."""

from dataclasses import replace
from random import Random

import pytest

from cascade_operator.decide import decide, keep, paused
from cascade_operator.decisions import Decision, Verdict
from cascade_operator.faults import PrometheusError
from cascade_operator.finding import Finding
from cascade_operator.plans import PlanRecord, first_plan
from cascade_operator.proposals import approved, tidy, with_unknown_approval
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_operator.traffic import NOT_ASKED_YET
from cascade_planner.traffic import Traffic
from tests.operator.builders import NOW, approving, service
from tests.operator.test_decide import MAX_LENGTH, ONE_STAGE, SECONDS, traffic
from tests.operator.test_planning import Reader, Stand

ADVISORY = service(planning={"mode": "Advisory"})


def window(seed: int, requests: int = 2000, long_share: float = 0.25) -> Traffic:
    """A window of one and the same traffic, as chance has it."""
    chance = Random(seed)
    prompts, finals = [], []
    for _ in range(requests):
        long = chance.random() < long_share
        prompt = int(2 ** (chance.uniform(12, 13.5) if long else chance.uniform(5, 10)))
        prompts.append(prompt)
        finals.append(min(MAX_LENGTH, prompt + chance.randint(50, 500)))
    found = Traffic.from_lengths(prompts, finals, SECONDS, MAX_LENGTH)
    assert isinstance(found, Traffic)
    return found


def proposed() -> tuple[PlanRecord, PlanRecord]:
    """The plan in force, with its proposal, and the proposal."""
    decision = decide(ONE_STAGE, traffic(ADVISORY), ADVISORY, NOW)
    assert decision.plan.proposal is not None
    return decision.plan, decision.plan.proposal


def test_what_is_proposed_can_be_read_and_approved_as_it_is_said() -> None:
    plan, proposal = proposed()
    decision = decide(plan, traffic(ADVISORY), ADVISORY, NOW + 60)
    assert decision.shown == proposal
    assert decision.finding.message.endswith(
        f"-n team cascadeservice demo cascadeservice.dev/approve={proposal.id}"
    )
    assert decision.record is not None
    assert (decision.record.verdict, decision.record.plan) == (Verdict.ADVISED, proposal.id)


def test_chance_does_not_change_a_proposal() -> None:
    plan = ONE_STAGE
    ids = set()
    best = set()
    for seed in range(30):
        decision = decide(plan, window(seed), ADVISORY, NOW + 60 * seed)
        plan = decision.plan
        ids.add(decision.shown.id)
        best.add(decide(ONE_STAGE, window(seed), service(), NOW).plan.id)
    assert len(ids) == 1
    assert len(best) > 1, "the windows are to differ enough to be a test"


def test_a_clearly_better_plan_takes_the_place_of_the_proposal() -> None:
    plan = decide(ONE_STAGE, window(1, long_share=0.05), ADVISORY, NOW).plan
    assert plan.proposal is not None
    changed = decide(plan, window(2, long_share=0.35), ADVISORY, NOW + 600).plan
    assert changed.proposal is not None
    assert changed.proposal.id != plan.proposal.id


def test_a_proposal_that_is_no_gain_any_more_is_withdrawn() -> None:
    plan, proposal = proposed()
    at_home = replace(proposal, proposal=None)
    there = replace(at_home, proposal=replace(plan, proposal=None))
    decision = decide(there, traffic(ADVISORY), ADVISORY, NOW + 60)
    assert decision.plan.proposal is None
    assert decision.shown == decision.plan
    assert decision.finding.reason is Reason.ADVISORY


def test_a_proposal_for_fewer_instances_is_withdrawn() -> None:
    plan, proposal = proposed()
    grown = replace(ADVISORY, instances=12)
    fitted = replace(first_plan(grown, NOW), proposal=proposal)
    decision = decide(fitted, traffic(grown), grown, NOW + 60)
    assert decision.plan.proposal is not None
    assert sum(decision.plan.proposal.counts) == 12
    assert plan.proposal == proposal


@pytest.mark.parametrize(
    "why", [NOT_ASKED_YET, Finding(False, Reason.PROMETHEUS_UNREACHABLE, "refused")]
)
def test_a_proposal_stands_while_nothing_new_is_known(why: Finding) -> None:
    plan, proposal = proposed()
    decision = keep(plan, why, ADVISORY, NOW)
    assert decision.shown == proposal
    assert decision.finding.reason is Reason.ADVISORY


def approve(plan: PlanRecord, id_: str, mode: str = "Advisory") -> tuple[Decision | None, Finding]:
    """What comes of an approval, and what PlanApplied says if it is not followed."""
    spec = approving(id_, planning={"mode": mode})
    plan = tidy(plan, spec)
    told = with_unknown_approval(keep(plan, NOT_ASKED_YET, spec, NOW), spec)
    return approved(plan, spec, NOW + 5), told.finding


def test_the_approved_plan_is_applied_and_nothing_is_proposed() -> None:
    plan, proposal = proposed()
    decision, _ = approve(plan, proposal.id)
    assert decision is not None
    assert decision.plan.partition == proposal.partition
    assert decision.plan.proposal is None
    assert decision.plan.time == decision.plan.moved == NOW + 5
    assert decision.event is not None
    assert decision.event.reason is Reason.PLAN_ADOPTED
    assert decision.record is not None
    assert (decision.record.verdict, decision.record.reason) == (
        Verdict.ADOPTED, Reason.APPROVED,
    )  # fmt: skip


@pytest.mark.parametrize("id_", ["other", "0ED2D56D8A", "0ed2d56d8", "*", "x" * 300])
def test_an_id_that_is_not_proposed_applies_nothing_and_is_told(id_: str) -> None:
    plan, proposal = proposed()
    decision, told = approve(plan, id_)
    assert decision is None
    assert (told.holds, told.reason) == (False, Reason.NOT_THE_PROPOSAL)
    assert proposal.id in told.message
    assert len(told.message) < 1024


def test_without_a_proposal_an_approval_says_so() -> None:
    decision, told = approve(ONE_STAGE, "other")
    assert decision is None
    assert told.message.endswith("no plan is proposed")


@pytest.mark.parametrize("mode", ["Active", "Paused"])
def test_in_other_modes_an_approval_is_not_looked_at(mode: str) -> None:
    plan, proposal = proposed()
    for id_ in (proposal.id, "other"):
        decision, told = approve(plan, id_, mode)
        assert decision is None
        assert told.reason is not Reason.NOT_THE_PROPOSAL


def test_an_approval_counts_once() -> None:
    plan, proposal = proposed()
    decision, _ = approve(plan, proposal.id)
    assert decision is not None
    again = replace(ONE_STAGE, proposal=proposal, approved=decision.plan.approved)
    followed, told = approve(again, proposal.id)
    assert followed is None
    assert told.reason is Reason.ADVISORY
    renewed = tidy(again, ADVISORY)
    assert renewed.approved == ""
    followed, _ = approve(renewed, proposal.id)
    assert followed is not None


def test_an_approval_of_the_plan_in_force_is_no_mistake() -> None:
    plan, _ = proposed()
    decision, told = approve(plan, plan.id)
    assert decision is None
    assert told.reason is Reason.ADVISORY


async def test_an_approval_is_followed_while_prometheus_is_silent() -> None:
    plan, proposal = proposed()
    stand = Stand(Reader())
    decision = await stand.plan(plan, NOW, approving(proposal.id, planning={"mode": "Advisory"}))
    assert decision.plan.partition == proposal.partition
    stand.planning.stop()


def pause() -> ServiceSpec:
    return service(planning={"mode": "Paused", "boundaries": [512]})


async def test_in_a_pause_prometheus_is_asked_and_nothing_is_planned() -> None:
    plan, _ = proposed()
    stand = Stand(Reader(PrometheusError("refused")))
    decision = await stand.answered(plan, NOW, pause())
    assert decision == paused(replace(plan, proposal=None))
    assert decision.finding.reason is Reason.PAUSED
    assert decision.record is None
    assert stand.planning.metrics.reason is Reason.PROMETHEUS_UNREACHABLE


def test_boundaries_by_hand_wait_for_the_end_of_the_pause() -> None:
    assert first_plan(pause(), NOW).partition.ends == (MAX_LENGTH,)
