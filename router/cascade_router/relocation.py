"""When the sequence of a request leaves its instance, and for whom.

Prepares the move while the leg goes on; the leg reports when it was left.
"""

from cascade_policy.offer import Offer
from cascade_router.course import Course
from cascade_router.handover import Growth, Target, first_review
from cascade_router.legs import Leg, Warmed
from cascade_router.move import Move
from cascade_router.outcomes import HandoverOutcome
from cascade_router.record import RequestRecord
from cascade_router.resumable import ResumableStream
from cascade_router.tools import Tools


class Relocation:
    """The move that is being prepared, if there is one, and the next time to think of one."""

    def __init__(self, tools: Tools, course: Course, record: RequestRecord) -> None:
        self._tools = tools
        self._course = course
        self._record = record
        self._move: Move | None = None

    def schedule(self, leg: Leg) -> None:
        """Review the sequence when it will have outgrown the stage it runs in."""
        answer, stage_map = self._course.answer, self._tools.dispatcher.view.stage_map
        prompt = answer.prompt_tokens
        if prompt is None or stage_map is None or not isinstance(answer, ResumableStream):
            return
        member = self._tools.dispatcher.current(leg.placement.member)
        at = first_review(stage_map, member.stage, prompt + answer.tokens)
        leg.review_at(float("inf") if at is None else at - prompt)

    def view_changed(self, leg: Leg) -> None:
        """Stages may have other ranges, and instances other stages."""
        if leg.has_tokens and self._move is None:
            self.schedule(leg)

    async def review(self, leg: Leg) -> None:
        """The sequence has grown: should it leave, and for whom? The leg goes on meanwhile. One
        that has been asked to leave is on its way already."""
        if self._move is not None:
            return
        course, budget = self._course, self._course.budget_left()
        if budget is not None and course.movable:
            target = await self._tools.mover.target(
                Growth(
                    leg.placement.member,
                    course.length,
                    budget.max_tokens,
                    course.placing.sequence,
                    course.placing.failed,
                )
            )
            move = None if target is None else self._prepare(target)
            if move is not None:
                move.begin(leg, course.length)
                return
        self._review_later(leg)

    async def evacuate(self, leg: Leg, going: bool) -> None:
        """The instance has no memory for the sequence any more: it goes where there is some, or
        waits for it. One that leaves (`going`) keeps it until another place is found; it asks
        again. One that is on its way already, or cannot go, stays as it is."""
        course = self._course
        if not course.movable or self._move is not None:
            return
        refuge = await course.placing.refuge(leg.placement, course.length, course.answer.tokens)
        if going and refuge is None:
            return
        move = self._prepare(None if refuge is None else Target(refuge, Offer()))
        if move is not None:
            move.leave()

    def after_warm_up(self, leg: Leg, report: Warmed) -> None:
        """The target of a move is warm, or will not be: leave now, or stay after all."""
        move = self._move
        if move is None or move.target is None:
            return
        if report.problem is not None:
            self._move = None
            refused, address = move.refused, move.target.member.address
            outcome = HandoverOutcome.REFUSED if refused else HandoverOutcome.FAILED
            self._tools.metrics.handover(outcome, move.transport)
            if not refused:
                self._tools.bans.failed(address, self._tools.loop.time())
                self._course.placing.failed |= {address}
        elif self._course.movable:
            move.warmed(leg, self._course.length)
            return
        else:
            self.give_up()
        self._review_later(leg)

    def left(self) -> Move:
        """The leg was left for this move."""
        move, self._move = self._move, None
        if move is None:
            raise AssertionError("a leg was cut although nobody was to leave it")
        return move

    def give_up(self) -> None:
        """Nothing comes of a move that was being prepared."""
        move, self._move = self._move, None
        if move is not None:
            move.cancel()
            self._tools.metrics.handover(HandoverOutcome.CANCELLED, move.transport)

    def _prepare(self, target: Target | None) -> Move | None:
        """A move, unless the sequence may not leave any more: its client may have slowed down."""
        course, answer = self._course, self._course.answer
        if not isinstance(answer, ResumableStream) or not course.movable:
            return None
        self._move = Move(self._tools, course.placing, answer, course.request, target, self._record)
        return self._move

    def _review_later(self, leg: Leg) -> None:
        leg.review_at(self._course.answer.tokens + self._tools.slice_tokens)
