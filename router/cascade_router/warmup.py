"""A warm-up: the target of a hand-over computes the sequence while its source goes on.

The target gets the ids so far and makes one token, which nobody wants; what stays is the prefix in
its cache. Then the source is left and the target has only the newest tokens to compute.
"""

from collections.abc import Callable

from cascade_policy.arrival import Arrival
from cascade_policy.instance_book import Stay
from cascade_router import limits, sse
from cascade_router.dispatch import Placement
from cascade_router.line import Unreachable
from cascade_router.outbound import Outbound
from cascade_router.own_engine import HEADER_REFUSED
from cascade_router.record import LegOutcome, LegRecord
from cascade_router.replies import Reply, reply
from cascade_router.tools import Tools

Told = Callable[[str | None], None]
"""Takes why the warm-up failed, or None when the target is warm."""


class WarmUp:
    """One warm-up of one target. `told` is called once, unless it is cancelled."""

    def __init__(
        self,
        tools: Tools,
        placement: Placement,
        record: LegRecord,
        arrival: Arrival,
        request: Outbound,
        told: Told,
    ) -> None:
        self.placement = placement
        self._record = record
        self.arrival = arrival
        self.refused = False
        """Whether the target declined, which is nothing against it."""
        self._tools = tools
        self._request = request
        self._told = told
        self._task = tools.loop.create_task(self._run())

    def cancel(self) -> None:
        """Nobody wants it any more: the target stops at once."""
        self._task.cancel()

    async def _run(self) -> None:
        tools = self._tools
        seconds = limits.WARM_SECONDS + tools.prefill_seconds(self.arrival.length)
        outcome = LegOutcome.CANCELLED
        try:
            problem = self._problem(await self._ask(seconds))
            outcome = LegOutcome.COMPLETED if problem is None else LegOutcome.REFUSED
        except Unreachable as error:
            problem, outcome = str(error), LegOutcome.LOST
        finally:
            self._record.end(outcome, 0, tools.loop.time())
        self._told(problem)

    async def _ask(self, seconds: float) -> Reply:
        tools, member = self._tools, self.placement.member
        stay: Stay | None = None
        if tools.peers.is_own(member):
            away = tools.own.turned_away(self.arrival)
            if away is not None:
                return away
            stay = tools.own.enter(self.arrival)
        try:
            answer = await reply(
                lambda sink: tools.peers.line(member, self.arrival, self._request, sink), seconds
            )
            cached = sse.cached_tokens_of(answer.body)
            if stay is not None and cached is not None:
                stay.computed(cached)
            return answer
        finally:
            if stay is not None:
                stay.leave(tools.loop.time())

    def _problem(self, answer: Reply) -> str | None:
        if answer.status == 200:
            return None
        self.refused = HEADER_REFUSED in answer.headers or answer.status in (429, 503)
        return f"it answered with status {answer.status}"
