"""What is known of every instance, and how it is asked.

State is asked for at each dispatch, in parallel, over the channels to the other sidecars. The last
known offer, plus what was sent there since, stands in for an answer that is late.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Final

from cascade_policy.arrival import Question
from cascade_policy.load import InstanceLoad
from cascade_policy.offer import Offer
from cascade_policy.stage_map import StageMap
from cascade_router.announce import InvalidAnnouncement, read_offer, write_question
from cascade_router.bans import Bans
from cascade_router.endpoints import Member
from cascade_router.metrics import Metrics
from cascade_router.outcomes import OfferOutcome
from cascade_router.own_engine import OwnEngine
from cascade_router.peers import Peers

PATIENCE: Final = 20
"""Deadlines that a dispatch waits when it knows nothing of any instance that the plan names."""
BID_SECONDS: Final = 2.0
"""After so long without an answer nothing is known of an instance any more."""

_log = logging.getLogger(__name__)


class Offers:
    """The last known offer of every instance, by address."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        peers: Peers,
        own: OwnEngine,
        bans: Bans,
        metrics: Metrics,
        deadline: float,
    ) -> None:
        self._loop = loop
        self._peers = peers
        self._own = own
        self._bans = bans
        self._metrics = metrics
        self._deadline = deadline
        self._known: dict[str, tuple[Offer, float]] = {}
        self._unanswered: dict[str, float] = {}
        """Since when the oldest question to an address has no answer."""

    async def ask(
        self,
        members: Sequence[Member],
        question: Question,
        *,
        essential: Sequence[Member] = (),
        age: float = 0.0,
        patience: float = 0.0,
    ) -> dict[str, Offer]:
        """The offers of those of `members` of which anything is known, by address: as of the last
        `age` seconds where possible, asked for where not.

        Waits longer than the deadline only by `patience` seconds, and while nothing is known of
        any `essential` one.
        """
        now = self._loop.time()
        fresh: dict[str, Offer] = {}
        asked = []
        for member in members:
            if self._peers.is_own(member):
                fresh[member.address] = self._own.offer(question)
                self._known[member.address] = (fresh[member.address].unasked(), now)
            elif self._older(member.address, now - age):
                asked.append(member)
        if asked:
            seconds = self._deadline + patience
            await self._round(asked, write_question(question), fresh, essential, seconds)
        known = self._known
        return {
            member.address: fresh.get(member.address) or known[member.address][0]
            for member in members
            if member.address in known
        }

    def greet(self, members: Iterable[Member]) -> None:
        """Ask those of which nothing is known, so that channels and offers are there when the
        first request comes. One that cannot answer yet is not banned for it: nobody needed it, and
        pods that start together greet each other before all of them listen."""
        question = write_question(Question())
        for member in members:
            if not (self._peers.is_own(member) or member.address in self._known):
                _Round(self, [member], question, {}, self._loop, bans=False)

    def sent(self, member: Member, length: int, stage_map: StageMap) -> None:
        """Count what was just sent to `member`, until it answers with an offer of its own."""
        known = self._known.get(member.address)
        if known is None or self._peers.is_own(member):
            return
        offer, at = known
        prefill = stage_map.engine.prefill_ms(length)
        memory = length + stage_map.handoff.slice_tokens
        self._known[member.address] = (offer.with_sequence(length, prefill, memory), at)

    def load_of(self, member: Member) -> InstanceLoad | None:
        """The load of an instance as far as it is known."""
        known = self._known.get(member.address)
        return None if known is None else known[0].load

    def last(self, address: str) -> tuple[Offer, float] | None:
        """The last known offer of an address, and when it came by the loop's clock."""
        return self._known.get(address)

    def keep(self, members: Iterable[Member]) -> None:
        """Forget everybody else."""
        addresses = {member.address for member in members}
        self._known = {at: known for at, known in self._known.items() if at in addresses}
        self._unanswered = {at: since for at, since in self._unanswered.items() if at in addresses}

    def heard(self, address: str, offer: Offer) -> None:
        """An instance told its state."""
        self._known[address] = (offer.unasked(), self._loop.time())
        self._unanswered.pop(address, None)

    def unheard(self, address: str, *, ban: bool) -> None:
        """An instance could not be asked, or takes no new sequences."""
        self._metrics.asked(OfferOutcome.NONE)
        self._known.pop(address, None)
        self._unanswered.pop(address, None)
        if ban:
            self._bans.failed(address, self._loop.time())

    def sweep(self, now: float) -> None:
        """Forget instances that do not answer. That is no reason for a ban, since the delay may be
        on this side; but one of which nothing is known is chosen only when nothing is known of
        any."""
        for address, since in list(self._unanswered.items()):
            if now - since > BID_SECONDS:
                del self._unanswered[address]
                self._known.pop(address, None)

    def send(self, member: Member, question: bytes, round_: "_Round") -> None:
        """Put a question to another instance."""
        self._unanswered.setdefault(member.address, self._loop.time())
        self._peers.ask(member, question, lambda data: round_.answered(member.address, data))

    async def _round(
        self,
        asked: Sequence[Member],
        question: bytes,
        fresh: dict[str, Offer],
        essential: Sequence[Member],
        seconds: float,
    ) -> None:
        asking = _Round(self, asked, question, fresh, self._loop)
        await asking.wait(seconds)
        self._metrics.asked(OfferOutcome.LATE, asking.open)
        self._metrics.asked(OfferOutcome.IN_TIME, sum(one.address in fresh for one in asked))
        if essential and not any(member.address in self._known for member in essential):
            await asking.wait_for_any(
                {member.address for member in essential}, self._deadline * PATIENCE
            )

    def _older(self, address: str, than: float) -> bool:
        known = self._known.get(address)
        return known is None or known[1] <= than


class _Round:
    """One question to several instances; late answers still update what is known."""

    def __init__(
        self,
        offers: Offers,
        members: Sequence[Member],
        question: bytes,
        fresh: dict[str, Offer],
        loop: asyncio.AbstractEventLoop,
        *,
        bans: bool = True,
    ) -> None:
        self._offers = offers
        self._bans = bans
        """Whether those that do not answer are left alone for a while."""
        self._fresh = fresh
        self._loop = loop
        self._open = {member.address for member in members}
        self._awaited: set[str] = set(self._open)
        self._enough = 0
        self._waiter: asyncio.Future[None] | None = None
        for member in members:
            offers.send(member, question, self)

    @property
    def open(self) -> int:
        """How many have not answered."""
        return len(self._open)

    def answered(self, address: str, data: bytes) -> None:
        """An answer, empty when there is none."""
        self._open.discard(address)
        try:
            if data:
                offer = self._fresh[address] = read_offer(data)
                self._offers.heard(address, offer)
            else:
                self._offers.unheard(address, ban=self._bans)
        except InvalidAnnouncement as error:
            _log.warning("%s sent %s", address, error)
            self._offers.unheard(address, ban=self._bans)
        self._look()

    async def wait(self, seconds: float) -> None:
        """Until everybody has answered, at most `seconds`."""
        await self._wait(self._open, 0, seconds)

    async def wait_for_any(self, addresses: set[str], seconds: float) -> None:
        """Until one of `addresses` has answered, at most `seconds`."""
        awaited = self._open & addresses
        await self._wait(awaited, len(awaited) - 1, seconds)

    async def _wait(self, awaited: set[str], enough: int, seconds: float) -> None:
        if not awaited:
            return
        self._awaited, self._enough = set(awaited), enough
        self._waiter = self._loop.create_future()
        timer = self._loop.call_later(seconds, self._stop)
        try:
            await self._waiter
        finally:
            timer.cancel()

    def _look(self) -> None:
        if len(self._open & self._awaited) <= self._enough:
            self._stop()

    def _stop(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
