"""The life of one request at its front.

The front keeps the client's connection from the first byte to the last, whatever becomes of the
instances behind it: it places the request, relays its legs, hands it over when it outgrows its
stage, and continues it elsewhere when an engine is lost.
"""

import asyncio
import logging
from dataclasses import replace

from cascade_policy.accounting import COMPLETIONS_PATH, Budget, next_leg
from cascade_policy.pins import Pin
from cascade_router import client_side, limits
from cascade_router.account import RequestAccount
from cascade_router.answers import WholeAnswer, new_answer
from cascade_router.calls import Call
from cascade_router.dispatch import Placement
from cascade_router.errors import UPSTREAM, RequestError
from cascade_router.handover import Growth, first_review
from cascade_router.legs import Cut, Due, Ended, Joinable, Leg, Lost, Refused, Report
from cascade_router.metrics import HandoverOutcome, Outcome
from cascade_router.peers import HEADER_REBID
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.seams import join
from cascade_router.server import ClientConnection
from cascade_router.tools import Tools
from cascade_router.upstream import Unreachable

_log = logging.getLogger(__name__)


class Session:
    """One request of a client."""

    def __init__(self, tools: Tools, client: ClientConnection, request: Generation) -> None:
        self._tools = tools
        self._client = client
        self._request = request
        self._answer = new_answer(request, tools.event_limit)
        self._account = RequestAccount(tools.metrics, tools.loop.time())
        self._outcome = Outcome.CANCELLED
        self._leg: Leg | None = None
        self._target: Placement | None = None
        self._source = ""
        self._estimate: int | None = None
        self._head_sent = False
        self._pinned: Pin | None = None
        self._failures = 0
        self._tokens_at_failure = 0
        self._avoid: frozenset[str] = frozenset()
        self._failed: frozenset[str] = frozenset()
        self._handovers = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; everything else follows by itself."""
        self._tools.sessions.add(self)
        self._pin(self._request.pin)
        self._task = self._tools.loop.create_task(self._run())
        # Not in the task itself: one that is cancelled before its first step never runs at all.
        self._task.add_done_callback(self._close)

    # The life of a request -------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            await self._serve()
        except RequestError as error:
            self._fail(error)
        except asyncio.CancelledError:
            self._outcome = Outcome.CANCELLED
        except Exception:
            _log.exception("a request failed by a fault of the router")
            self._fail(RequestError(500, UPSTREAM, "the router failed; send the request again"))

    async def _serve(self) -> None:
        """From the prompt's length to the last byte, over as many legs as it takes."""
        await self._measure()
        placement: Placement | None = await self._place()
        while placement is not None:
            report = await self._relay(placement)
            match report:
                case Ended():
                    placement = self._finish()
                case Cut():
                    placement = self._hand_over(placement)
                case Refused():
                    placement = await self._after_refusal(placement, report)
                case _:
                    placement = await self._after_loss(placement, report)

    async def _measure(self) -> None:
        """The prompt's length in tokens decides the stage."""
        tools = self._tools
        self._estimate = await tools.gauge.measure(
            self._request, tools.dispatcher.view.stage_map, tools.dispatcher.helper()
        )

    async def _place(self, binding: bool = True) -> Placement:
        """The cheapest instance for the sequence as it is now."""
        dispatcher, length = self._tools.dispatcher, self._length()
        limit = self._request.output_limit()
        left = None if limit is None else max(0, limit - self._answer.tokens)
        placement = await dispatcher.place(length, left, self._avoid, binding)
        stage = dispatcher.stage_of(length)
        if self._account.stage is None:
            self._account.stage = stage
        if placement.member.stage != stage:
            self._tools.metrics.out_of_stage()
        return placement

    async def _place_again(self) -> Placement:
        """Like `_place`; a stream that has begun waits a while for somebody to be ready."""
        loop = self._tools.loop
        end = loop.time() + limits.REPLACE_SECONDS
        while True:
            try:
                return await self._place()
            except RequestError:
                if not self._head_sent or loop.time() >= end:
                    raise
            self._avoid = frozenset()
            await asyncio.sleep(limits.REPLACE_POLL_SECONDS)

    async def _relay(self, placement: Placement) -> Report:
        """One leg: the client gets its events until it is over; what ended it is returned."""
        body = self._leg_body()
        if body is None:
            return Ended()
        leg = self._leg = self._new_leg(placement)
        try:
            await leg.send(self._call(placement, body, leg))
            while True:
                report = await leg.report()
                if isinstance(report, Due):
                    await self._review(leg, placement)
                elif isinstance(report, Joinable):
                    await join(self._answer, leg, self._request, self._tools)
                else:
                    return report
        except Unreachable as error:
            return Lost(str(error))
        finally:
            leg.close()
            self._account.last_tokens(leg.last_at)

    async def _review(self, leg: Leg, placement: Placement) -> None:
        """The sequence outgrew its stage: should it leave, and for whom? The leg goes on."""
        answer, budget = self._answer, self._budget_left()
        target = None
        if (
            isinstance(answer, ResumableStream)
            and answer.resumable
            and budget is not None
            and not self._client.slow
        ):
            length, left = self._length(), budget.max_tokens
            growth = Growth(placement.member, length, left, self._failed)
            target = await self._tools.mover.target(growth)
            if target is not None and answer.resumable and not self._client.slow:
                self._target = target
                answer.leave(limits.CLEAN_POINT_TOKENS)
                return
        leg.review_at = answer.tokens + self._tools.slice_tokens

    def _hand_over(self, source: Placement) -> Placement:
        """The leg was left at a clean point: the sequence goes on at its target."""
        target, self._target = self._target, None
        if target is None:
            raise AssertionError("a leg was cut although nobody was to leave it")
        self._source = source.member.address
        self._account.handed_over()
        self._answer.settle()
        self._handovers += 1
        self._tools.dispatcher.sent(target.member, self._length())
        if self._request.wants_trace:
            stages = (source.member.stage, target.member.stage)
            self._client.body(client_side.trace(self._handovers, *stages))
        return target

    async def _after_refusal(self, placement: Placement, refused: Refused) -> Placement | None:
        """An instance answered with an error: ask again, go elsewhere, or tell the client."""
        if HEADER_REBID in refused.headers:
            return await self._place(binding=False)
        tools, member = self._tools, placement.member
        moving = self._account.change_failed(HandoverOutcome.REFUSED)
        if refused.status >= 500 and refused.status != 503:
            tools.bans.failed(member.address, tools.loop.time())
        clients_fault = refused.status < 500 and refused.status != 429
        try:
            if clients_fault and not self._head_sent:
                raise client_side.refusal(refused)
            why = f"it answered with status {refused.status}"
            return await self._elsewhere(placement, why, moving)
        except RequestError:
            if self._head_sent:
                raise
            self._outcome = client_side.pass_error(self._client, self._request, refused)
            return None

    async def _after_loss(self, placement: Placement, report: Report) -> Placement:
        """An instance was lost: the stream goes on elsewhere from what the client has."""
        if isinstance(report, Lost) and not report.is_instance_at_fault:
            raise client_side.broken(report.reason)
        tools, member = self._tools, placement.member
        reason = report.reason if isinstance(report, Lost) else "it stopped"
        _log.warning("instance %s was lost in mid-request: %s", member.name, reason)
        tools.bans.failed(member.address, tools.loop.time())
        if tools.peers.is_own(member):
            tools.own.suspect()
        self._target = None
        moving = self._account.change_failed(HandoverOutcome.FAILED)
        self._answer.settle()
        return await self._elsewhere(placement, reason, moving)

    async def _elsewhere(self, placement: Placement, reason: str, moving: bool) -> Placement:
        """Another instance, within the budget of failures; `moving` while a hand-over looks for a
        target, with its source to fall back on. Raises RequestError."""
        tokens = self._answer.tokens
        if tokens - self._tokens_at_failure >= limits.RESCUE_RENEWED_TOKENS:
            self._failures = 0
        self._failures += 1
        self._tokens_at_failure = tokens
        self._avoid |= {placement.member.address}
        self._failed |= {placement.member.address}
        try:
            if self._answer.started and not self._answer.resumable:
                raise client_side.broken(f"its instance was lost ({reason}), and it is pinned")
            if self._failures > limits.RESCUES:
                raise client_side.broken(f"{self._failures} instances failed; the last: {reason}")
            target = await self._place_again()
        except RequestError:
            if self._head_sent:
                self._account.rescue_failed()
            raise
        if moving and target.member.address != self._source:
            self._account.handed_over()
        elif self._head_sent and not moving:
            self._account.rescue_begun()
        return target

    def _finish(self) -> Placement | None:
        """The answer is complete; nothing follows."""
        answer = self._answer
        rest = b""
        if isinstance(answer, ResumableStream) and not answer.complete:
            rest = answer.finish_by_length()
        if self._target is not None:
            self._account.overtaken()
        self._outcome = Outcome.COMPLETED
        self._client.end(rest)
        return None

    def _fail(self, error: RequestError) -> None:
        """The request cannot be served: say so in the way that is still possible."""
        self._outcome = Outcome.REJECTED if error.status < 500 else Outcome.FAILED
        if not self._head_sent:
            client_side.tell(self._client, self._request, error)
        elif self._request.streamed:
            self._client.end(client_side.in_band(self._request, error))
        else:
            self._client.abort()

    def _close(self, _: object) -> None:
        """Whatever happened: nothing of the request stays behind."""
        if self._leg is not None:
            self._leg.close()
        self._tools.sessions.discard(self)
        prompt = self._answer.prompt_tokens
        self._account.close(
            self._outcome,
            self._estimate if prompt is None else prompt,
            self._answer.tokens,
            self._tools.loop.time(),
        )

    # Legs ------------------------------------------------------------------------------------

    def _new_leg(self, placement: Placement) -> Leg:
        tools = self._tools
        own = tools.peers.is_own(placement.member)
        booking = tools.own.book(self._length()) if own else None
        leg = Leg(placement, self._answer, self._client, self, booking, tools.loop)
        self._schedule_review(leg)
        return leg

    def _leg_body(self) -> bytes | None:
        """The body of the next leg's request; None when there is nothing left to make."""
        answer = self._answer
        answer.begin_leg()
        if not isinstance(answer, ResumableStream) or not answer.leg:
            return self._request.first_leg()
        budget = self._budget_left()
        return None if budget is None else self._request.next_leg(answer.ids(), budget)

    def _call(self, placement: Placement, body: bytes, leg: Leg) -> Call:
        tools, answer = self._tools, self._answer
        resumed = isinstance(answer, ResumableStream) and answer.leg > 0
        path = COMPLETIONS_PATH if resumed else self._request.path
        dispatch = replace(placement.dispatch, length=self._length())
        data = tools.peers.generation(placement.member, path, body, dispatch, self._request.headers)
        return Call(tools.pool, tools.peers.address(placement.member), data, leg)

    def _schedule_review(self, leg: Leg) -> None:
        """When the sequence will have outgrown the stage it runs in."""
        prompt = self._answer.prompt_tokens
        stage_map = self._tools.dispatcher.view.stage_map
        if prompt is None or stage_map is None or not isinstance(self._answer, ResumableStream):
            return
        member = self._tools.dispatcher.current(leg.placement.member)
        at = first_review(stage_map, member.stage, prompt + self._answer.tokens)
        leg.review_at = float("inf") if at is None else at - prompt

    def _budget_left(self) -> Budget | None:
        """The client's limits less what is done; None when nothing may be made any more."""
        stage_map, prompt = self._tools.dispatcher.view.stage_map, self._answer.prompt_tokens
        if stage_map is None or prompt is None:
            return None
        return next_leg(self._request.budget(prompt, stage_map.max_length), self._answer.tokens)

    def _length(self) -> int:
        """Tokens of the sequence now: prompt, as well as it is known, and output."""
        prompt = self._answer.prompt_tokens
        return (self._estimate or 0 if prompt is None else prompt) + self._answer.tokens

    def _pin(self, reason: Pin | None) -> None:
        if reason is not None and self._pinned is None:
            self._pinned = reason
            self._tools.metrics.pinned(reason)

    # What the leg tells ----------------------------------------------------------------------

    def opened(self, headers: dict[str, str]) -> None:
        """An instance accepted: the client's head goes out with the first one's."""
        if self._leg is None:
            return
        member = self._leg.placement.member
        self._tools.bans.succeeded(member.address)
        if self._head_sent:
            return
        self._head_sent = True
        client_side.begin(self._client, self._request, member, self._pinned, headers)

    def first_tokens(self, now: float) -> None:
        """Tokens came from the running leg for the first time."""
        answer, leg, tools = self._answer, self._leg, self._tools
        self._account.first_tokens(now, answer.tokens)
        if leg is None:
            return
        self._avoid = frozenset()
        if isinstance(answer, ResumableStream):
            self._pin(answer.pin)
            if not answer.leg and answer.prompt_tokens is not None:
                tools.gauge.learn(self._request, answer.prompt_tokens)
                self._schedule_review(leg)

    # What the client does --------------------------------------------------------------------

    def client_gone(self) -> None:
        """The client closed its connection: every engine stops working for it at once."""
        if self._leg is not None:
            self._leg.close()
        if self._task is not None:
            self._task.cancel()

    def client_slow(self) -> None:
        """The client does not keep up: its engine is not read any further."""
        if self._leg is not None:
            self._leg.pause()

    def client_ready(self) -> None:
        """The client caught up."""
        if self._leg is not None:
            self._leg.resume()

    # What the sidecar asks for ---------------------------------------------------------------

    def view_changed(self) -> None:
        """Stages may have other ranges, and instances other stages."""
        if self._leg is not None and self._leg.has_tokens and self._target is None:
            self._schedule_review(self._leg)

    def sweep(self, now: float) -> None:
        """Once a second: count what was decoded, and look for silent instances."""
        prompt = self._answer.prompt_tokens
        if prompt is not None:
            self._account.decoded(prompt, self._answer.tokens)
        if self._leg is None:
            return
        timing = self._tools.timing
        if isinstance(self._answer, WholeAnswer):
            self._leg.check_silence(now, limits.WHOLE_ANSWER_SECONDS, timing.stream_idle)
        else:
            first = timing.first_byte + self._tools.prefill_seconds(self._length())
            self._leg.check_silence(now, first, timing.stream_idle)
