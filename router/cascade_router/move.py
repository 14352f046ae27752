"""A hand-over in preparation: its target, and how the sequence gets there."""

from cascade_policy.accounting import COMPLETIONS_PATH
from cascade_policy.arrival import Purpose
from cascade_policy.offer import Offer
from cascade_policy.stage_map import RECOMPUTE, WARM
from cascade_policy.warming import warm_again, warmth
from cascade_router import limits
from cascade_router.dispatch import Placement
from cascade_router.handover import Target
from cascade_router.legs import Leg, Warmed
from cascade_router.outbound import Outbound
from cascade_router.placing import Placing
from cascade_router.record import RequestRecord
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.tools import Tools
from cascade_router.warmup import WarmUp


class Move:
    """From the decision until the source is left. The leg at the source goes on meanwhile."""

    def __init__(
        self,
        tools: Tools,
        placing: Placing,
        answer: ResumableStream,
        request: Generation,
        target: Target | None,
        record: RequestRecord,
    ) -> None:
        self.target = None if target is None else target.placement
        """None: the sequence leaves without knowing where to."""
        self.transport = RECOMPUTE
        self._offer = Offer() if target is None else target.offer
        self._tools = tools
        self._placing = placing
        self._answer = answer
        self._request = request
        self._record = record
        self._warm_up: WarmUp | None = None
        self._rounds = 0
        self._warmed_tokens = 0

    @property
    def refused(self) -> bool:
        """Whether the target declined to be warmed, which is nothing against it."""
        return self._warm_up is not None and self._warm_up.refused

    def begin(self, leg: Leg, length: int) -> None:
        """Warm the target where that pays, else leave at the next clean point."""
        stage_map = self._tools.dispatcher.view.stage_map
        if stage_map is not None and self.target is not None:
            verdict = warmth(stage_map.handoff, self._offer, length, self.target.remaining)
            if verdict.warm:
                self.transport = WARM
                self._warm(leg, self.target, length)
                return
        self.leave()

    def warmed(self, leg: Leg, length: int) -> None:
        """The target is warm: leave, or warm it again when it has fallen far behind."""
        made = self._answer.tokens - self._warmed_tokens
        if self.target is not None and warm_again(made, self._rounds):
            self._warm(leg, self.target, length)
        else:
            self.leave()

    def leave(self) -> None:
        """Leave at the next clean point, whatever the target knows."""
        self._answer.leave(limits.CLEAN_POINT_TOKENS)

    def cancel(self) -> None:
        """Nothing comes of it: the target stops computing."""
        if self._warm_up is not None:
            self._warm_up.cancel()
        self._answer.stay()

    def _warm(self, leg: Leg, target: Placement, length: int) -> None:
        self._rounds += 1
        self._warmed_tokens = self._answer.tokens
        tools = self._tools
        leg_record = self._record.begin_leg(Purpose.WARM, target.member, length, tools.loop.time())
        self._warm_up = WarmUp(
            tools,
            target,
            leg_record,
            self._placing.arrival(target, length, Purpose.WARM),
            Outbound(
                COMPLETIONS_PATH,
                self._request.warm_up(self._answer.ids()),
                tools.tracing.headers(self._record, leg_record, self._request.headers),
            ),
            lambda problem: leg.tell(Warmed(problem)),
        )
