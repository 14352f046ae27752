"""Who gets a sequence: asks the instances that the plan names for their load, and takes the
cheapest.

State is asked for at each dispatch, in parallel, over the relay's own kept-alive connections. The
last known load, plus what was sent there since, stands in for an answer that is late.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from cascade_policy.bids import bids
from cascade_policy.candidates import Candidate, sample, whom_to_ask
from cascade_policy.load import IDLE, InstanceLoad, InvalidLoad
from cascade_policy.price import Choice, expected_remaining, pick, price
from cascade_policy.stage_map import StageMap
from cascade_router import limits
from cascade_router.bans import Bans
from cascade_router.calls import Call
from cascade_router.errors import UNAVAILABLE, RequestError
from cascade_router.membership import Member, View
from cascade_router.own_engine import OwnEngine
from cascade_router.peers import BID_PATH, Dispatch, Peers
from cascade_router.pool import Pool
from cascade_router.upstream import Unreachable

PATIENCE: Final = 20
"""Deadlines that a dispatch waits when it knows nothing of any instance that the plan names."""
BID_SECONDS: Final = 2.0
"""A question without an answer for so long is given up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Placement:
    """An instance, and what its sidecar is told about the sequence it gets."""

    member: Member
    dispatch: Dispatch


class Dispatcher:
    """Keeps the last known load of every instance and chooses among them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        peers: Peers,
        own: OwnEngine,
        bans: Bans,
        deadline: float,
        random: Callable[[], float],
    ) -> None:
        self.view = View(None, (), None)
        self._loop = loop
        self._pool = pool
        self._peers = peers
        self._own = own
        self._bans = bans
        self._deadline = deadline
        self._random = random
        self._known: dict[str, tuple[InstanceLoad, float]] = {}
        self._asked: dict[str, _Question] = {}

    def use(self, view: View) -> None:
        """Work with a new view; what is known of instances that left is forgotten."""
        self.view = view
        addresses = {member.address for member in view.members}
        self._known = {at: known for at, known in self._known.items() if at in addresses}

    async def place(
        self,
        length: int,
        limit: int | None,
        without: frozenset[str] = frozenset(),
        binding: bool = True,
    ) -> Placement:
        """The instance for a sequence of `length` tokens with at most `limit` to come.

        `without` names addresses not to use; `binding` asks the target to hold its price. Raises
        RequestError when there is nobody.
        """
        stage_map = self._stage_map()
        stage = stage_map.stage_of(length)
        members = self.candidates(stage, stage_map, without)
        if not members:
            raise _nobody("no instance is ready; try again shortly")
        own_stage = [member for member in members if member.stage == stage]
        loads = await self.loads(members, essential=own_stage or members)
        remaining = expected_remaining(stage_map, length, limit)
        choice = self._pick(stage_map, stage, length, remaining, members, loads)
        member = next(member for member in members if member.address == choice.instance)
        self.sent(member, length)
        # What the target will compute to compare: bids may hold terms that only a front can know.
        load, target = loads.get(choice.instance, IDLE), stage_map.tpot_target_ms
        bid = price(load, stage_map.engine, length, remaining, target)
        held = bid if binding and math.isfinite(bid) else None
        return Placement(member, Dispatch(length, remaining, held))

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

    async def loads(
        self, members: Sequence[Member], *, essential: Sequence[Member] = (), age: float = 0.0
    ) -> dict[str, InstanceLoad]:
        """The load of each of `members` that is known, by address: as of the last `age` seconds
        where possible, asked for where not. Waits longer than the deadline only while nothing is
        known of any `essential` one."""
        now = self._loop.time()
        questions = []
        for member in members:
            if self._peers.is_own(member):
                self._known[member.address] = (self._own.load(), now)
            elif self._older(member.address, now - age):
                questions.append(self._ask(member))
        await self._answers(questions, self._deadline)
        known = self._known
        if essential and not any(member.address in known for member in essential):
            wanted = {member.address for member in essential}
            late = [question for question in questions if question.address in wanted]
            await self._answers(late, self._deadline * PATIENCE, first=True)
        return {
            member.address: known[member.address][0]
            for member in members
            if member.address in known
        }

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

    def sent(self, member: Member, length: int) -> None:
        """Count what was just sent to `member`, until it answers with a load of its own."""
        stage_map = self.view.stage_map
        known = self._known.get(member.address)
        if known is None or stage_map is None:
            return
        load, at = known
        waiting = load.waiting_prefill_ms + stage_map.engine.prefill_ms(length)
        self._known[member.address] = (replace(load.plus(length), waiting_prefill_ms=waiting), at)

    def heard(self, address: str, load: InstanceLoad) -> None:
        """An instance told its load."""
        self._known[address] = (load, self._loop.time())

    def silent(self, address: str) -> None:
        """An instance did not answer. That is no reason for a ban, since the delay may be on this
        side; but one of which nothing is known is chosen only when nothing is known of any."""
        self._known.pop(address, None)

    def unheard(self, address: str) -> None:
        """An instance could not be asked."""
        self._known.pop(address, None)
        self._bans.failed(address, self._loop.time())

    def closed(self, question: "_Question") -> None:
        """A question is answered or given up."""
        if self._asked.get(question.address) is question:
            del self._asked[question.address]

    def greet(self) -> None:
        """Ask instances that nothing is known of, so that connections and loads are there when
        the first request comes."""
        unknown = [
            member
            for member in self.view.members
            if member.address not in self._known and not self._peers.is_own(member)
        ]
        with contextlib.suppress(RequestError):  # Without a hop key there is no asking yet.
            for member in sample(unknown, limits.MAX_GREETED, self._random):
                self._ask(member)

    def sweep(self, now: float) -> None:
        """Give up questions that nobody answers."""
        for question in list(self._asked.values()):
            if now - question.asked_at > BID_SECONDS:
                question.give_up()
        self._bans.forget(now)

    def _members(self) -> list[Member]:
        """All instances, this pod's only while its engine is well."""
        return [
            member
            for member in self.view.members
            if self._own.healthy or not self._peers.is_own(member)
        ]

    def _stage_map(self) -> StageMap:
        if self.view.stage_map is None:
            raise _nobody("the router has not seen its stage map yet; try again shortly")
        return self.view.stage_map

    def _pick(
        self,
        stage_map: StageMap,
        stage: int,
        length: int,
        remaining: float,
        members: Iterable[Member],
        loads: dict[str, InstanceLoad],
    ) -> Choice:
        if not loads:
            # Nobody answered: any of them is better than none.
            loads = {member.address: IDLE for member in members}
        candidates = [
            Candidate(member.address, member.stage, load)
            for member in members
            if (load := loads.get(member.address)) is not None
        ]
        offers = bids(candidates, length, remaining, stage_map)
        choice = pick(offers, stage, stage_map.boundaries, stage_map.bias, self._random())
        if choice is None:
            raise _nobody("no instance is ready; try again shortly")
        return choice

    def _fullness(self, member: Member) -> int:
        """Tokens that an instance holds as far as is known; unknown ones come first."""
        known = self._known.get(member.address)
        return -1 if known is None else known[0].kv_tokens

    def _older(self, address: str, than: float) -> bool:
        known = self._known.get(address)
        return known is None or known[1] <= than

    def _ask(self, member: Member) -> "_Question":
        pending = self._asked.get(member.address)
        if pending is None:
            request = self._peers.control(member, "GET", BID_PATH)
            pending = _Question(self, self._pool, member.address, request, self._loop.time())
            self._asked[member.address] = pending
            pending.send(self._loop)
        return pending

    async def _answers(
        self, questions: Sequence["_Question"], seconds: float, first: bool = False
    ) -> None:
        """Wait until all questions are closed (or the `first` is), at most `seconds`."""
        if all(question.is_closed for question in questions):
            return
        waiter = _Waiter(self._loop, sum(not q.is_closed for q in questions), first)
        for question in questions:
            question.waiters.append(waiter)
        timer = self._loop.call_later(seconds, waiter.stop)
        try:
            await waiter.future
        finally:
            timer.cancel()
            for question in questions:
                if waiter in question.waiters:
                    question.waiters.remove(waiter)


class _Waiter:
    """Counts answers down; one future for a whole round of questions."""

    def __init__(self, loop: asyncio.AbstractEventLoop, count: int, first: bool) -> None:
        self.future: asyncio.Future[None] = loop.create_future()
        self._left = 1 if first else count

    def closed(self) -> None:
        self._left -= 1
        if self._left <= 0:
            self.stop()

    def stop(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class _Question:
    """One bid that was asked for; several dispatches may wait for the same one."""

    def __init__(
        self, dispatcher: Dispatcher, pool: Pool, address: str, request: bytes, now: float
    ) -> None:
        self.address = address
        self.asked_at = now
        self.is_closed = False
        self.waiters: list[_Waiter] = []
        self._dispatcher = dispatcher
        self._pool = pool
        self._call = Call(pool, address, request, self)
        self._status = 0
        self._body = b""
        self._connecting: asyncio.Task[None] | None = None

    def send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask, over an idle connection if there is one."""
        upstream = self._pool.take(self.address)
        if upstream is not None:
            self._call.send_on(upstream)
        else:
            self._connecting = loop.create_task(self._connect())

    def give_up(self) -> None:
        """Stop waiting for the answer."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._call.abort()
        self._dispatcher.silent(self.address)
        self._close()

    def head(self, status: int, headers: dict[str, str]) -> None:  # noqa: ARG002
        self._status = status

    def data(self, raw: bytes, body: bytes) -> None:  # noqa: ARG002
        self._body += body

    def end(self, keep_alive: bool) -> None:  # noqa: ARG002
        try:
            if self._status != 200:
                raise InvalidLoad(f"status {self._status}")
            self._dispatcher.heard(
                self.address, InstanceLoad.from_wire(msgspec.json.decode(self._body, type=dict))
            )
        except (InvalidLoad, msgspec.DecodeError, msgspec.ValidationError) as error:
            _log.warning("bid of %s: %s", self.address, error)
            self._dispatcher.unheard(self.address)
        self._close()

    def lost(self, reason: str) -> None:
        _log.info("bid of %s: %s", self.address, reason)
        self._dispatcher.unheard(self.address)
        self._close()

    async def _connect(self) -> None:
        try:
            await self._call.send(fresh=True)
        except Unreachable as error:
            self.lost(str(error))

    def _close(self) -> None:
        self.is_closed = True
        self._dispatcher.closed(self)
        for waiter in self.waiters:
            waiter.closed()


def _nobody(message: str) -> RequestError:
    return RequestError(503, UNAVAILABLE, message, retry_after=limits.RETRY_AFTER_SECONDS)
