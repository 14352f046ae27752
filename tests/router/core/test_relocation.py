"""One move at a time."""

from typing import Any, cast
from unittest.mock import AsyncMock, Mock

from cascade_policy.accounting import Budget
from cascade_policy.offer import Offer
from cascade_router.dispatch import Placement
from cascade_router.endpoints import Member
from cascade_router.handover import Target
from cascade_router.relocation import Relocation
from cascade_router.resumable import ResumableStream

SOURCE, REFUGE, CHEAPER = (Placement(Member(f"pod-{n}", f"10.0.0.{n}:8000", 0)) for n in range(3))


async def test_a_sequence_that_was_asked_to_leave_is_not_reviewed_on_its_way() -> None:
    answer = ResumableStream(chat=False, wants_ids=True, wants_usage=False, event_limit=1000)
    course = Mock(answer=answer, movable=True, length=700)
    course.placing.refuge = AsyncMock(return_value=REFUGE)
    course.budget_left.return_value = Budget(100, 0)
    tools = Mock()
    tools.mover.target = AsyncMock(return_value=Target(CHEAPER, Offer()))
    leg = Mock(placement=SOURCE)
    relocation = Relocation(cast(Any, tools), course, Mock())

    await relocation.evacuate(leg, going=False)
    await relocation.review(leg)

    assert answer.leaving
    tools.mover.target.assert_not_awaited()
    assert relocation.left().target is REFUGE
