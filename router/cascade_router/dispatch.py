"""Who gets a sequence: asks the instances that the plan names for their offers, and takes the
cheapest of those where it fits."""

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cascade_policy.arrival import Question
from cascade_policy.bids import bids
from cascade_policy.candidates import Candidate, sample, whom_to_ask
from cascade_policy.offer import Offer, has_memory
from cascade_policy.prefix_index import Block, thin
from cascade_policy.price import Choice, expected_remaining, pick, price
from cascade_policy.stage_map import StageMap
from cascade_router import limits
from cascade_router.bans import Bans
from cascade_router.errors import UNAVAILABLE, RequestError
from cascade_router.membership import Member, View
from cascade_router.offers import Offers
from cascade_router.own_engine import OwnEngine
from cascade_router.peers import Peers

PREFILL_PATIENCE: Final = 0.1
"""Part of a prompt's prefill time that late offers are worth waiting for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A sequence that needs an instance. Lengths in tokens."""

    length: int
    limit: int | None = None
    """Output tokens that may come at most; None where nothing bounds them."""
    prefix: tuple[Block, ...] = ()
    sequence: str = ""
    without: frozenset[str] = field(default_factory=frozenset)
    """Addresses not to use."""
    binding: bool = True
    """Whether the target is held to its price."""

    def question(self, *, reserve: bool = False) -> Question:
        """What instances are asked."""
        return Question(self.length, thin(self.prefix), self.sequence, reserve)


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance for a sequence, output tokens expected, and the price that its router is held
    to."""

    member: Member
    remaining: float = 0.0
    bid: float | None = None
    cached: int = 0
    """Tokens at the start of the sequence that its engine should hold."""


class Dispatcher:
    """Chooses among the instances of the present view."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        offers: Offers,
        peers: Peers,
        own: OwnEngine,
        bans: Bans,
        random: Callable[[], float],
    ) -> None:
        self.view = View(None, (), None)
        self.offers = offers
        self._loop = loop
        self._peers = peers
        self._own_address = peers.own_address
        self._own = own
        self._bans = bans
        self._random = random

    def use(self, view: View) -> None:
        """Work with a new view; what is known of instances that left is forgotten. One that is
        there anew has become ready since, so whatever failed before is no reason to avoid it."""
        before = {member.address for member in self.view.members}
        for member in view.members:
            if member.address not in before:
                self._bans.succeeded(member.address)
        self.view = view
        self.offers.keep(view.members)

    async def place(self, wish: Wish) -> Placement | None:
        """The instance for a sequence; None where none has room. Raises RequestError when there is
        no instance at all."""
        stage_map = self._stage_map()
        stage = stage_map.stage_of(wish.length)
        members = self.candidates(stage, stage_map, wish.without)
        if not members:
            raise _nobody("no instance is ready; try again shortly")
        own_stage = [member for member in members if member.stage == stage]
        offers = await self.offers.ask(
            members,
            wish.question(),
            essential=own_stage or members,
            patience=_patience(wish, stage_map),
        )
        return self.choose(wish, members, offers)

    def choose(
        self, wish: Wish, members: Iterable[Member], offers: Mapping[str, Offer]
    ) -> Placement | None:
        """The cheapest of `members` where the sequence fits, and the note that it was sent there.
        None where it fits nowhere."""
        stage_map = self._stage_map()
        # If nobody answered, any of them is better than none.
        offers = offers or {member.address: Offer() for member in members}
        candidates = [
            candidate(member, offers[member.address], wish.length, stage_map)
            for member in members
            if member.address in offers
        ]
        stage = stage_map.stage_of(wish.length)
        remaining = expected_remaining(stage_map, wish.length, wish.limit)
        choice = pick(
            bids(candidates, wish.length, remaining, stage_map),
            stage,
            stage_map.boundaries,
            stage_map.bias,
            self._random(),
        )
        if choice is None or not math.isfinite(choice.price):
            return None
        member = next(member for member in members if member.address == choice.instance)
        self.sent(member, wish.length)
        return Placement(
            member,
            remaining,
            self._held_price(choice, wish, remaining, offers, stage_map),
            offers[choice.instance].cached,
        )

    def candidates(
        self,
        stage: int,
        stage_map: StageMap,
        without: frozenset[str] = frozenset(),
        *,
        in_need: bool = True,
    ) -> list[Member]:
        """Whom to ask about a sequence of `stage`, see `whom_to_ask`. `in_need`, bans are
        overlooked when nobody else is left: a request must go somewhere, a hand-over need not."""
        now = self._loop.time()
        usable = [member for member in self._members() if member.address not in without]
        good = [member for member in usable if not self._bans.banned(member.address, now)]
        asked = good or (usable if in_need else ())
        return whom_to_ask(asked, stage, stage_map.boundaries, self._fullness, self._random)

    def sent(self, member: Member, length: int) -> None:
        """Count what is sent to `member`, until it answers with an offer of its own."""
        if self.view.stage_map is not None:
            self.offers.sent(member, length, self.view.stage_map)

    def stage_of(self, length: int) -> int:
        """The stage whose range covers `length`. Raises RequestError before the first map."""
        return self._stage_map().stage_of(length)

    def current(self, member: Member) -> Member:
        """The same instance in the present view: it may serve another stage by now."""
        for other in self.view.members:
            if other.address == member.address:
                return other
        return member

    def helper(self) -> Member | None:
        """An instance whose engine may be asked for a prompt's ids: this pod's if it is well."""
        members, now = self._members(), self._loop.time()
        for member in members:
            if self._peers.is_own(member):
                return member
        good = [member for member in members if not self._bans.banned(member.address, now)]
        return good[int(self._random() * len(good))] if good else None

    def greet(self) -> None:
        """Ask instances that nothing is known of."""
        members = sample(self.view.members, limits.MAX_GREETED, self._random)
        self.offers.greet(members)

    def sweep(self, now: float) -> None:
        """Forget what is over."""
        self.offers.sweep(now)
        self._bans.forget(now)

    def _held_price(
        self,
        choice: Choice,
        wish: Wish,
        remaining: float,
        offers: Mapping[str, Offer],
        stage_map: StageMap,
    ) -> float | None:
        """What the target will compute to compare: bids may hold terms that only a front knows.
        This pod's own price has no time to rise."""
        if not wish.binding or choice.instance == self._own_address:
            return None
        offer = offers[choice.instance]
        return price(
            offer.load,
            stage_map.engine,
            wish.length,
            remaining,
            stage_map.tpot_target_ms,
            offer.cached,
            fits=True,
        )

    def _members(self) -> list[Member]:
        """All instances, this pod's only while its engine is well and the pod stays."""
        return [
            member
            for member in self.view.members
            if self._own.available or not self._peers.is_own(member)
        ]

    def _stage_map(self) -> StageMap:
        if self.view.stage_map is None:
            raise _nobody("the router has not seen its stage map yet; try again shortly")
        return self.view.stage_map

    def _fullness(self, member: Member) -> int:
        """Tokens that an instance holds as far as is known; unknown ones come first."""
        load = self.offers.load_of(member)
        return -1 if load is None else load.kv_tokens


def candidate(member: Member, offer: Offer, length: int, stage_map: StageMap) -> Candidate:
    """An instance, as it offers itself to a sequence of `length` tokens."""
    growing, most = stage_map.handoff.slice_tokens, stage_map.engine.max_sequences
    fits = has_memory(offer, length, growing, most)
    return Candidate(member.address, member.stage, offer.load, offer.cached, fits)


def _patience(wish: Wish, stage_map: StageMap) -> float:
    """Seconds beyond the deadline for answers about a prompt that somebody may hold: to miss the
    one that does costs its whole prefill."""
    if not wish.prefix:
        return 0.0
    return PREFILL_PATIENCE * stage_map.engine.prefill_ms(wish.length) / 1000


def _nobody(message: str) -> RequestError:
    return RequestError(503, UNAVAILABLE, message, retry_after=limits.RETRY_AFTER_SECONDS)
