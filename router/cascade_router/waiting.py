"""Where requests wait that fit nowhere: least slack first, bounded, and none for ever.

Whoever waits is looked at again whenever something ends here, and a few times a second, since other
fronts fill and empty the same instances. The head of the queue has room kept for it once half its
slack is gone; until then a shorter one behind it may go first.
"""

import asyncio
import contextlib
import random
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from cascade_policy.admission import Waiting, by_urgency, most_urgent, retry_after_seconds
from cascade_policy.offer import Offer
from cascade_policy.stage_map import StageMap
from cascade_router import limits
from cascade_router.dispatch import Dispatcher, Placement, Wish
from cascade_router.errors import OVERLOADED, RequestError
from cascade_router.membership import Member
from cascade_router.metrics import Metrics

POLL_SECONDS: Final = 0.05
"""Between two looks at the instances while somebody waits."""
TRIED: Final = 32
"""Of those that wait for a stage, how many are tried at each look."""
RATE_WINDOW: Final = 64
"""Departures from the queue by which its pace is known."""
RATE_SECONDS: Final = 60.0
"""Departures before that tell nothing of the pace now."""
PROMISES: Final = 4096
"""Clients that were turned away of which the time of their return is remembered."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """How long a request may wait. Times in seconds of the loop's clock."""

    arrived: float
    running: bool = False
    """Whether its answer has begun: such a one goes first and is never turned away."""
    size: int = 0
    """Bytes that it holds while it waits."""
    refused: bool = False
    """Whether an instance has just found no room for it: looking again at once would find none."""


@dataclass(slots=True, eq=False)
class _Guest:
    """One that waits."""

    waiting: Waiting
    wish: Wish
    size: int
    placed: asyncio.Future[Placement]

    @property
    def length(self) -> int:
        """Tokens of its sequence."""
        return self.wish.length


class WaitingRoom:
    """The queue of one front."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dispatcher: Dispatcher,
        metrics: Metrics,
        most: int = limits.MAX_WAITING,
        seconds: float = limits.MAX_WAIT_SECONDS,
    ) -> None:
        self._loop = loop
        self._dispatcher = dispatcher
        self._metrics = metrics
        self._most = most
        self._seconds = seconds
        self._guests: dict[int, _Guest] = {}
        self._bytes = 0
        self._number = 0
        self._wake = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._departures: deque[float] = deque(maxlen=RATE_WINDOW)
        # When clients that were turned away come again.
        self._promised: deque[float] = deque(maxlen=PROMISES)

    def __len__(self) -> int:
        return len(self._guests)

    async def place(self, wish: Wish, urgency: Urgency) -> Placement:
        """The instance for a sequence, as soon as it fits somewhere.

        Raises RequestError when there is no instance, when the queue is full, or after too long.
        """
        if not self._guests and not urgency.refused:
            placement = await self._dispatcher.place(wish)
            if placement is not None:
                return placement
        guest = self._join(wish, urgency)
        started = self._loop.time()
        try:
            async with asyncio.timeout(self._seconds):
                return await guest.placed
        except TimeoutError:
            raise self._full("the request waited too long for an instance with room") from None
        finally:
            self._leave(guest)
            self._metrics.waited(self._loop.time() - started)

    def wake(self) -> None:
        """Something ended: there may be room."""
        self._wake.set()

    def describe(self, now: float) -> dict[str, float | int | None]:
        """The queue, as `state_page` shows it. The slack of its head is what it can still wait and
        have its first token in time; negative when it is late."""
        waiting = [guest.waiting for guest in self._guests.values()]
        oldest = min((one.arrived_ms for one in waiting), default=None)
        slack = most_urgent(waiting, now * 1000).slack_ms(now * 1000) if waiting else None
        return {
            "count": len(waiting),
            "bytes": self._bytes,
            "oldest_seconds": None if oldest is None else round(now - oldest / 1000, 3),
            "head_slack_seconds": None if slack is None else round(slack / 1000, 3),
        }

    def close(self) -> None:
        """Stop; whoever waits is told by its own cancellation."""
        if self._serving is not None:
            self._serving.cancel()

    # The queue -------------------------------------------------------------------------------

    def _join(self, wish: Wish, urgency: Urgency) -> _Guest:
        if not urgency.running and (
            len(self._guests) >= self._most or self._bytes + urgency.size > limits.MAX_WAITING_BYTES
        ):
            raise self._full("all instances are full, and so is the queue")
        self._number += 1
        guest = _Guest(self._waiting(wish, urgency), wish, urgency.size, self._loop.create_future())
        self._guests[self._number] = guest
        self._bytes += guest.size
        self._metrics.waiting(len(self._guests))
        if not urgency.refused:
            self._wake.set()
        if self._serving is None or self._serving.done():
            self._serving = self._loop.create_task(self._serve())
        return guest

    def _waiting(self, wish: Wish, urgency: Urgency) -> Waiting:
        stage_map = self._dispatcher.view.stage_map
        work = target = 0.0
        if stage_map is not None and not urgency.running:
            work, target = stage_map.engine.prefill_ms(wish.length), stage_map.ttft_target_ms
        arrived = urgency.arrived * 1000
        return Waiting(self._number, arrived, arrived + target, work)

    def _leave(self, guest: _Guest) -> None:
        if self._guests.pop(guest.waiting.id, None) is not None:
            self._bytes -= guest.size
            self._metrics.waiting(len(self._guests))

    def _full(self, why: str) -> RequestError:
        self._metrics.turned_away()
        seconds = self._seconds_until_served()
        return RequestError(
            429, OVERLOADED, f"{why}; try again in {seconds} s", retry_after=seconds
        )

    def _seconds_until_served(self) -> int:
        """When one that is turned away now should come again: after those that wait, and after
        those that were turned away before it and will be back by then."""
        now = self._loop.time()
        while self._promised and self._promised[0] <= now:
            self._promised.popleft()
        ahead = len(self._guests) + len(self._promised) + 1
        seconds = retry_after_seconds(ahead, self._pace(now))
        self._promised.append(now + seconds)
        return seconds

    def _pace(self, now: float) -> float:
        """Requests that leave the queue for an instance, per second."""
        while self._departures and self._departures[0] < now - RATE_SECONDS:
            self._departures.popleft()
        if len(self._departures) < 2:
            return 0.0
        span = now - self._departures[0]
        return len(self._departures) / span if span > 0 else 0.0

    # The looking -----------------------------------------------------------------------------

    async def _serve(self) -> None:
        """Place those that wait until nobody does."""
        while self._guests:
            # Not in step with other fronts, which look at the same instances.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS * random.uniform(0.5, 1.5)):
                    await self._wake.wait()
            self._wake.clear()
            await self._look()

    async def _look(self) -> None:
        """Try the most urgent ones, in their order."""
        now = self._loop.time() * 1000
        stage_map = self._dispatcher.view.stage_map
        ordered = by_urgency((guest.waiting for guest in self._guests.values()), now)
        tried = Counter[int]()
        for position, waiting in enumerate(ordered):
            guest = self._guests.get(waiting.id)
            stage = 0 if guest is None or stage_map is None else stage_map.stage_of(guest.length)
            tried[stage] += 1
            if guest is None or tried[stage] > TRIED:
                continue
            try:
                placement = await self._try(guest, head=position == 0, stage_map=stage_map)
            except RequestError as error:
                if not guest.placed.done():
                    guest.placed.set_exception(error)
                continue
            if placement is not None and not guest.placed.done():
                self._departures.append(self._loop.time())
                guest.placed.set_result(placement)
                # It is in its instance's book before the next one is looked at.
                await asyncio.sleep(0)
                await asyncio.sleep(0)

    async def _try(
        self, guest: _Guest, *, head: bool, stage_map: StageMap | None
    ) -> Placement | None:
        dispatcher, wish = self._dispatcher, guest.wish
        if stage_map is None:
            return await dispatcher.place(wish)
        stage = stage_map.stage_of(wish.length)
        members = dispatcher.candidates(stage, stage_map, wish.without)
        if not members:
            return await dispatcher.place(wish)
        # The head asks; the others make do with what it heard.
        age = 0.0 if head else POLL_SECONDS
        offers = await dispatcher.offers.ask(members, wish.question(), age=age)
        placement = dispatcher.choose(wish, members, offers)
        if placement is None and head:
            await self._reserve(guest, members, offers)
        return placement

    async def _reserve(
        self, guest: _Guest, members: list[Member], offers: dict[str, Offer]
    ) -> None:
        """Keep room for the head where most is free, once half its slack is gone."""
        if not guest.waiting.holds_reservation(self._loop.time() * 1000):
            return
        known = [member for member in members if member.address in offers]
        freest = max(known, key=lambda member: offers[member.address].free_tokens or 0)
        await self._dispatcher.offers.ask([freest], guest.wish.question(reserve=True))
