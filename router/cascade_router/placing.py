"""Where one request goes: what is known of its sequence, and the instance for it as it is now."""

import asyncio
import contextlib
from dataclasses import replace

from cascade_policy.arrival import Arrival, Purpose
from cascade_policy.prefix_index import Block
from cascade_router import limits
from cascade_router.dispatch import Placement, Wish
from cascade_router.errors import RequestError
from cascade_router.prefix import prompt_blocks
from cascade_router.prompt_text import PromptText, prompt_text
from cascade_router.record import RequestRecord
from cascade_router.request import Generation
from cascade_router.tools import Tools
from cascade_router.waiting import Urgency


class Placing:
    """The places of one request, over all its legs. Lengths in tokens."""

    def __init__(self, tools: Tools, request: Generation, record: RequestRecord) -> None:
        self._tools = tools
        self._request = request
        self._record = record
        self._arrived = tools.loop.time()
        self.text: PromptText | None = None
        """Of the prompt; None where the client gave ids."""
        self.estimate: int | None = None
        """Of the prompt, before an engine has told its length."""
        self.prefix: tuple[Block, ...] = ()
        self.sequence = tools.new_sequence()
        self.avoid: frozenset[str] = frozenset()
        """Addresses that have failed it since its last token."""
        self.failed: frozenset[str] = frozenset()
        """Those that ever have."""

    async def measure(self) -> None:
        """The prompt's length decides the stage, its beginning tells who may hold it."""
        request, dispatcher = self._request, self._tools.dispatcher
        self.text = None if request.prompt_ids is not None else prompt_text(request)
        self.estimate = await self._tools.gauge.measure(
            request, self.text, dispatcher.view.stage_map, dispatcher.helper()
        )
        self.prefix = prompt_blocks(request, self.estimate)
        request.forget_prompt()

    async def place(
        self, length: int, done: int, *, binding: bool, running: bool, refused: bool = False
    ) -> Placement:
        """The cheapest instance for the sequence, `length` tokens with `done` of them generated,
        as soon as it fits somewhere. Raises RequestError.

        `running`, its answer has begun: then it waits a while for somebody to be ready. `refused`,
        an instance has just found no room for it.
        """
        started = self._tools.loop.time()
        end = started + (limits.REPLACE_SECONDS if running else 0.0)
        urgency = Urgency(self._arrived, running, len(self._request.body), refused)
        try:
            placement = await self._place_by(end, length, done, binding, urgency)
        finally:
            self._record.waited += self._tools.loop.time() - started
        self._note(placement, length)
        return placement

    async def _place_by(
        self, end: float, length: int, done: int, binding: bool, urgency: Urgency
    ) -> Placement:
        while True:
            try:
                return await self._tools.waiting.place(self._wish(length, done, binding), urgency)
            except RequestError:
                if self._tools.loop.time() >= end:
                    raise
            self.avoid = frozenset()
            await asyncio.sleep(limits.REPLACE_POLL_SECONDS)

    def fail(self, placement: Placement) -> None:
        """An instance failed the request: others first."""
        self.avoid |= {placement.member.address}
        self.failed |= {placement.member.address}

    def arrival(self, placement: Placement, length: int, purpose: Purpose) -> Arrival:
        """What the instance is told about the sequence it gets."""
        return Arrival(
            length=length,
            remaining=placement.remaining,
            bid=placement.bid,
            purpose=purpose,
            prefix=self.prefix,
            sequence=self.sequence,
            blind=not self._request.streamed,
            movable=self._request.pin is None,
        )

    async def refuge(self, here: Placement, length: int, done: int) -> Placement | None:
        """Another instance for a sequence that has to leave, if there is one with room."""
        wish = self._wish(length, done, binding=False)
        elsewhere = wish.without | self.failed | {here.member.address}
        with contextlib.suppress(RequestError):
            return await self._tools.dispatcher.place(replace(wish, without=elsewhere))
        return None

    def _wish(self, length: int, done: int, binding: bool) -> Wish:
        limit = self._request.output_limit()
        return Wish(
            length=length,
            limit=None if limit is None else max(0, limit - done),
            prefix=self.prefix,
            sequence=self.sequence,
            without=self.avoid,
            binding=binding,
        )

    def _note(self, placement: Placement, length: int) -> None:
        stage = self._tools.dispatcher.stage_of(length)
        if self._record.stage is None:
            self._record.stage = stage
        if placement.member.stage != stage:
            self._tools.metrics.out_of_stage()
