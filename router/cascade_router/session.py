"""The life of one request at its front.

The front keeps the client's connection from the first byte to the last, whatever becomes of the
instances behind it: it places the request, relays its legs, hands it over when it outgrows its
stage, and continues it elsewhere when an engine is lost.
"""

import asyncio
import contextlib
import logging

from cascade_policy.arrival import Purpose
from cascade_policy.instance_book import RefusalReason
from cascade_policy.pins import Pin
from cascade_policy.stage_map import RECOMPUTE
from cascade_router import client_side, faults, limits
from cascade_router.account import RequestAccount
from cascade_router.announce import InvalidAnnouncement, read_offer
from cascade_router.answers import WholeAnswer, new_answer
from cascade_router.course import Course
from cascade_router.dispatch import Placement
from cascade_router.errors import UPSTREAM, RequestError
from cascade_router.failures import Failures
from cascade_router.legs import (
    AskedToLeave,
    Cut,
    Due,
    Ended,
    Joinable,
    Leg,
    Lost,
    Over,
    Refused,
    Warmed,
    outcome_of,
)
from cascade_router.line import Unreachable
from cascade_router.outbound import Outbound
from cascade_router.outcomes import HandoverOutcome, Outcome
from cascade_router.own_engine import HEADER_REFUSED
from cascade_router.placing import Placing
from cascade_router.record import LegRecord, RequestRecord
from cascade_router.relocation import Relocation
from cascade_router.request import Generation
from cascade_router.resumable import ResumableStream
from cascade_router.seams import join
from cascade_router.server import ClientConnection
from cascade_router.tools import Tools

_log = logging.getLogger(__name__)


class Session:
    """One request of a client."""

    def __init__(
        self, tools: Tools, client: ClientConnection, request: Generation, record: RequestRecord
    ) -> None:
        self._tools = tools
        self._client = client
        self._request = request
        self.record = record
        record.request_id, record.streamed = request.request_id, request.streamed
        self._answer = new_answer(request, tools.event_limit)
        self._placing = Placing(tools, request, record)
        self._course = Course(tools, client, request, self._answer, self._placing)
        self._relocation = Relocation(tools, self._course, record)
        self._account = RequestAccount(tools.metrics, record)
        self._outcome = Outcome.CANCELLED
        self._leg: Leg | None = None
        self._leg_record: LegRecord | None = None
        self._source = ""
        self._head_sent = False
        self._held_bytes = 0
        self._failures = Failures(tools.bans)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; everything else follows by itself."""
        self._tools.sessions.add(self)
        self._hold(self._request.held_bytes)
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
        except Exception as error:
            _log.error("a request failed by a fault of the router: %s", faults.told(error))
            self._fail(RequestError(500, UPSTREAM, "the router failed; send the request again"))

    async def _serve(self) -> None:
        """From the prompt's length to the last byte, over as many legs as it takes."""
        await self._placing.measure()
        self._hold(self._request.held_bytes)
        placement: Placement | None = await self._place()
        while placement is not None:
            report = await self._relay(placement)
            match report:
                case Ended():
                    placement = self._finish()
                case Cut():
                    placement = await self._hand_over(placement)
                case Refused():
                    placement = await self._after_refusal(placement, report)
                case Lost():
                    placement = await self._after_loss(placement, report)

    async def _place(self, *, binding: bool = True, refused: bool = False) -> Placement:
        """The cheapest instance for the sequence as it is now."""
        return await self._placing.place(
            self._course.length,
            self._answer.tokens,
            binding=binding,
            running=self._head_sent,
            refused=refused,
        )

    async def _relay(self, placement: Placement) -> Over:
        """One leg: the client gets its events until it is over; what ended it is returned."""
        tools, body = self._tools, self._course.begin_leg()
        if body is None:
            return Ended()
        length, purpose = self._course.length, self._course.purpose
        arrival = self._placing.arrival(placement, length, purpose)
        stay = None
        if arrival.purpose is Purpose.FIRST:
            self.record.cached_tokens = placement.cached
        if tools.peers.is_own(placement.member):
            away = tools.own.turned_away(arrival)
            if away is not None:
                return Refused(away.status, away.headers, away.body)
            stay = tools.own.enter(arrival)
        member, before = placement.member, self._answer.tokens
        record = self.record.begin_leg(purpose, member, length, tools.loop.time())
        self._leg_record = record
        leg = self._leg = Leg(placement, self._answer, self._client, self, stay, tools.loop)
        self._relocation.schedule(leg)
        headers = tools.tracing.headers(self.record, record, self._request.headers)
        request = Outbound(self._course.path, body, headers)
        report: Over | None = None
        try:
            await leg.send(tools.peers.line(placement.member, arrival, request, leg))
            report = await self._follow(leg)
        except Unreachable as error:
            report = Lost(str(error))
        finally:
            leg.close()
            self._account.last_tokens(leg.last_at)
            record.end(outcome_of(report), self._answer.tokens - before, tools.loop.time())
            if not isinstance(report, Cut):
                self._relocation.give_up()
        return report

    async def _follow(self, leg: Leg) -> Over:
        """What happens on the way is dealt with here; what ends the leg is returned."""
        while True:
            report = await leg.report()
            match report:
                case Due():
                    await self._relocation.review(leg)
                case AskedToLeave(going):
                    await self._relocation.evacuate(leg, going)
                case Warmed():
                    self._relocation.after_warm_up(leg, report)
                case Joinable():
                    await join(self._answer, leg, self._request, self._tools)
                case Ended() | Cut() | Refused() | Lost():
                    return report

    async def _hand_over(self, source: Placement) -> Placement:
        """The leg was left at a clean point: the sequence goes on at its target, or, without one,
        as soon as there is room."""
        move = self._relocation.left()
        self._source = source.member.address
        self._account.handed_over(move.transport)
        self._answer.settle()
        self.record.handovers += 1
        target = move.target
        if target is None:
            target = await self._place(binding=False)
        else:
            self._tools.dispatcher.sent(target.member, self._course.length)
        if self._request.wants_trace:
            stages = (source.member.stage, target.member.stage)
            self._client.body(client_side.trace(self.record.handovers, *stages))
        return target

    async def _after_refusal(self, placement: Placement, refused: Refused) -> Placement | None:
        """An instance did not take the request: ask again, go elsewhere, or tell the client."""
        if HEADER_REFUSED in refused.headers:
            return await self._after_no(placement, refused)
        member = placement.member
        moving = self._account.change_failed(HandoverOutcome.REFUSED)
        if refused.status >= 500 and refused.status != 503:
            self._failures.accuse(member.address)
        clients_fault = refused.status < 500 and refused.status != 429
        try:
            if clients_fault and not self._head_sent:
                raise client_side.refusal(refused)
            why = f"it answered with status {refused.status}"
            return await self._elsewhere(placement, why, moving)
        except RequestError:
            if self._head_sent:
                raise
            self.record.status = refused.status
            self._outcome = client_side.pass_error(
                self._client, self._request, refused, member, self.record.pin
            )
            return None

    async def _after_no(self, placement: Placement, refused: Refused) -> Placement:
        """An instance's router declined: its price has risen, or it has no room. It says what it
        has instead, and no failure is counted."""
        tools, moving = self._tools, self._account.change_failed(HandoverOutcome.REFUSED)
        reason = refused.headers[HEADER_REFUSED]
        tools.metrics.refused(reason)
        with contextlib.suppress(InvalidAnnouncement):
            tools.dispatcher.offers.heard(placement.member.address, read_offer(refused.body))
        target = await self._place(
            binding=reason != RefusalReason.PRICE, refused=reason == RefusalReason.MEMORY
        )
        if moving and target.member.address != self._source:
            self._account.handed_over(RECOMPUTE)
        return target

    async def _after_loss(self, placement: Placement, lost: Lost) -> Placement:
        """An instance was lost: the stream goes on elsewhere from what the client has."""
        if not lost.is_instance_at_fault:
            raise client_side.broken(lost.reason)
        tools, member = self._tools, placement.member
        _log.warning("instance %s was lost in mid-request: %s", member.name, lost.reason)
        tools.bans.failed(member.address, tools.loop.time())
        if tools.peers.is_own(member):
            tools.own.suspect()
        moving = self._account.change_failed(HandoverOutcome.FAILED)
        self._answer.settle()
        return await self._elsewhere(placement, lost.reason, moving)

    async def _elsewhere(self, placement: Placement, reason: str, moving: bool) -> Placement:
        """Another instance, within the budget of failures; `moving` while a hand-over looks for a
        target, with its source to fall back on. Raises RequestError."""
        self._failures.add(self._answer.tokens)
        self._placing.fail(placement)
        try:
            if self._answer.started and not self._answer.resumable:
                raise client_side.broken(f"its instance was lost ({reason}), and it is pinned")
            if self._failures.too_many:
                raise client_side.broken(f"{self._failures}; the last: {reason}")
            target = await self._place()
        except RequestError:
            if self._head_sent:
                self._account.rescue_failed()
            raise
        if moving and target.member.address != self._source:
            self._account.handed_over(RECOMPUTE)
        elif self._head_sent and not moving:
            self._account.rescue_begun()
        return target

    def _finish(self) -> Placement | None:
        """The answer is complete; nothing follows."""
        answer = self._answer
        self._outcome = Outcome.COMPLETED
        self._client.end(answer.ending() if isinstance(answer, ResumableStream) else b"")
        return None

    def _fail(self, error: RequestError) -> None:
        """The request cannot be served: say so in the way that is still possible."""
        self._outcome = Outcome.of(error.status)
        if not self._head_sent:
            self.record.status = error.status
            client_side.tell(self._client, self._request, error)
        elif self._request.streamed:
            self._client.end(client_side.in_band(self._request, error))
        else:
            self._client.abort()

    def _close(self, _: object) -> None:
        """Whatever happened: nothing of the request stays behind."""
        tools = self._tools
        self._relocation.give_up()
        if self._leg is not None:
            self._leg.close()
        self._leg = self._task = None
        tools.sessions.discard(self)
        self._hold(0)
        prompt = self._answer.prompt_tokens
        if prompt is not None and not isinstance(self._answer, ResumableStream):
            tools.gauge.learn(self._placing.text, prompt)
        self.record.prompt_estimated = prompt is None
        self._account.close(
            self._outcome,
            self._placing.estimate if prompt is None else prompt,
            self._answer.tokens,
            tools.loop.time(),
        )
        tools.tell(self.record)
        tools.waiting.wake()

    def _hold(self, size: int) -> None:
        """The request takes so many bytes of memory now."""
        self._tools.held_bytes += size - self._held_bytes
        self._held_bytes = size

    def _pin(self, reason: Pin | None) -> None:
        if reason is not None and self.record.pin is None:
            self.record.pin = reason
            self._tools.metrics.pinned(reason)

    # What the leg tells ----------------------------------------------------------------------

    def opened(self, headers: dict[str, str]) -> None:
        """An instance accepted: the client's head goes out with the first piece of its answer."""
        if self._leg is None:
            return
        if isinstance(self._answer, ResumableStream):
            self._pin(self._answer.pin)
        member = self._leg.placement.member
        self._failures.served_by(member.address, self._tools.loop.time())
        if self._head_sent:
            return
        self._head_sent = True
        self.record.status = 200
        client_side.begin(self._client, self._request, member, self.record.pin, headers)

    def first_tokens(self, now: float) -> None:
        """Tokens came from the running leg for the first time."""
        answer, leg, tools = self._answer, self._leg, self._tools
        if leg is None or self._leg_record is None:
            return
        self._account.first_tokens(self._leg_record, now, answer.tokens)
        self._placing.avoid = frozenset()
        if isinstance(answer, ResumableStream):
            self._pin(answer.pin)
            if not answer.leg and answer.prompt_tokens is not None:
                tools.gauge.learn(self._placing.text, answer.prompt_tokens)
            self._relocation.schedule(leg)

    def computed(self, cached_tokens: int) -> None:
        """The engine says how many tokens of the prompt it held."""
        if not self._course.resumed:
            self.record.cached_tokens = cached_tokens

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

    @property
    def tokens(self) -> int:
        """Output tokens so far."""
        return self._answer.tokens

    def view_changed(self) -> None:
        """Stages may have other ranges, and instances other stages."""
        if self._leg is not None:
            self._relocation.view_changed(self._leg)

    def sweep(self, now: float) -> None:
        """Once a second: count what was decoded, let go of what is not needed any more, and look
        for silent instances."""
        prompt = self._answer.prompt_tokens
        if prompt is not None:
            self._account.decoded(prompt, self._answer.tokens)
        if self._request.body and self._request.streamed and self._answer.started:
            self._request.forget_body()
            self._hold(self._request.held_bytes)
        if self._leg is None:
            return
        timing = self._tools.timing
        if isinstance(self._answer, WholeAnswer):
            self._leg.check_silence(now, limits.WHOLE_ANSWER_SECONDS, timing.stream_idle)
        else:
            first = timing.first_byte + self._tools.prefill_seconds(self._course.length)
            self._leg.check_silence(now, first, timing.stream_idle)
