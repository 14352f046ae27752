"""Where a running sequence should go, if anywhere.

The review itself is a pure decision of the policy on kept load; this module gathers the load
before and confirms the chosen target with a fresh bid.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cascade_policy.arrival import Question
from cascade_policy.candidates import Candidate
from cascade_policy.load import IDLE
from cascade_policy.offer import Offer
from cascade_policy.price import expected_remaining
from cascade_policy.review import Verdict, review
from cascade_policy.stage_map import Boundaries, StageMap
from cascade_router import limits
from cascade_router.dispatch import Dispatcher, Placement, candidate
from cascade_router.membership import Member


@dataclass(frozen=True, slots=True)
class Growth:
    """A running sequence under review: where it runs, tokens now, and output tokens allowed."""

    member: Member
    length: int
    limit: int
    sequence: str = ""
    without: frozenset[str] = frozenset()
    """Addresses that have failed this sequence before."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a sequence should go, and what was offered there."""

    placement: Placement
    offer: Offer


def first_review(stage_map: StageMap, stage: int, length: int) -> int | None:
    """The length at which a sequence that begins a leg at `length` in `stage` is reviewed first.

    With hard boundaries one token past its stage, never in the last one; with soft ones a slice
    later at the latest, because a cheaper instance may be found in any stage, its own included.
    """
    handoff = stage_map.handoff
    if not handoff.enabled:
        return None
    last = stage >= len(stage_map.stages) - 1
    outgrown = None if last else stage_map.stages[stage].max_length + 1
    if stage_map.boundaries is Boundaries.HARD:
        return outgrown if outgrown is None else max(outgrown, length + 1)
    slice_end = length + handoff.slice_tokens
    return slice_end if outgrown is None or outgrown <= length else min(outgrown, slice_end)


class Mover:
    """Reviews running sequences."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def target(self, growth: Growth) -> Target | None:
        """Where the sequence should go, or None when it should stay."""
        stage_map = self._dispatcher.view.stage_map
        if stage_map is None:
            return None
        without = growth.without | {growth.member.address}
        stage = stage_map.stage_of(growth.length)
        members = self._dispatcher.candidates(stage, stage_map, without, in_need=False)
        if not members:
            return None
        kept = await self._offers(growth, members, limits.REVIEW_AGE_SECONDS)
        verdict = self._verdict(growth, members, kept, stage_map)
        if not verdict.move:
            return None
        chosen = [member for member in members if member.address == verdict.target]
        fresh = await self._offers(growth, chosen, 0.0)
        verdict = self._verdict(growth, chosen, fresh, stage_map)
        if not verdict.move:
            return None
        remaining = expected_remaining(stage_map, growth.length, growth.limit)
        return Target(Placement(chosen[0], remaining), fresh[chosen[0].address])

    async def _offers(self, growth: Growth, members: list[Member], age: float) -> dict[str, Offer]:
        question = Question(growth.length, sequence=growth.sequence)
        return await self._dispatcher.offers.ask([*members, growth.member], question, age=age)

    def _verdict(
        self,
        growth: Growth,
        members: list[Member],
        offers: Mapping[str, Offer],
        stage_map: StageMap,
    ) -> Verdict:
        here = offers.get(growth.member.address, Offer(IDLE.plus(growth.length)))
        return review(
            growth.length,
            expected_remaining(stage_map, growth.length, growth.limit),
            Candidate(
                growth.member.address, self._dispatcher.current(growth.member).stage, here.load
            ),
            [
                candidate(member, offers[member.address], growth.length, stage_map)
                for member in members
                if member.address in offers
            ],
            stage_map,
        )
