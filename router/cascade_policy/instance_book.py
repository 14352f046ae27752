"""What a router knows of its own engine, and what it makes of a sequence that is offered to it.

The book of load, the index of prefixes, the memory as far as it can be known, and the reservation
for one that has waited for long. Pure: times are seconds of one clock, given by the caller.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cascade_policy.admission import Reservation, Room, admit, blocks_needed, room
from cascade_policy.arrival import Arrival, Purpose, Question
from cascade_policy.book_state import BookState, Gauges
from cascade_policy.engine_model import EngineModel
from cascade_policy.ledger import Booking, Computed, LoadLedger
from cascade_policy.load import InstanceLoad
from cascade_policy.offer import Offer
from cascade_policy.prefix_index import Belief, PrefixIndex
from cascade_policy.price import has_risen, price, step_ms
from cascade_policy.saving import NO_SAVING, saving
from cascade_policy.stage_map import Handoff
from cascade_policy.step_window import BatchState

MAX_WARMING: Final = 2
"""Warm-ups that an instance computes at once: each takes whole steps from everybody else."""
MAX_RECENT: Final = 512
"""Sequences of which is remembered how much of them the engine has seen."""
LEAVING_TOKENS: Final = 16
"""Tokens that a sequence may grow by until its front has found a clean point to leave at."""
LOOKS: Final = 2.0
"""Looks at memory that it may miss: the next one, and as long again for messages."""
ESTIMATE_SLACK: Final = 0.2
"""Part by which the estimated length of a text may be off before its cache counts as lost."""
RESERVATION_SECONDS: Final = 1.0
"""A reservation lapses when its front does not renew it for so long."""


class RefusalReason(StrEnum):
    """Why a sequence is not taken: a closed set, the label values of a counter."""

    PRICE = "price"
    """The price has risen since it was bid."""
    MEMORY = "memory"
    """It does not fit beside what is there."""
    WARMING = "warming"
    """Enough warm-ups are under way."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What of a stage map an instance needs to judge an arrival."""

    model: EngineModel
    handoff: Handoff
    tpot_target_ms: float


class InstanceBook:
    """The book of one instance."""

    def __init__(self, terms: Terms, now: float, max_prefix_tokens: int | None = None) -> None:
        self._terms = terms
        self._model = terms.model
        self._gauges: Gauges | None = None
        self._preempted_at = -math.inf
        self._ledger = LoadLedger(terms.model, now)
        self._max_prefix_tokens = max_prefix_tokens
        self._index = PrefixIndex(self._index_tokens())
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._reserved: tuple[str, Reservation, float] | None = None
        """Sequence, room, and until when."""
        self._saving = NO_SAVING
        self._stays: dict[Stay, None] = {}
        """Who is here, in the order of their arrival."""
        self.warming = 0
        """Warm-ups that are under way."""

    # What becomes known ----------------------------------------------------------------------

    def use(self, terms: Terms) -> None:
        """Judge by other terms from now on; what is booked keeps its price."""
        self._terms = terms
        self._adopt()

    def computed_so_far(self, now: float) -> Computed:
        """What is computed; to be taken before the engine is asked for its gauges."""
        self._ledger.load(now)
        return self._ledger.computed()

    def measured(self, gauges: Gauges, before: Computed, now: float) -> None:
        """The engine told its gauges; `before` is what was computed when it was asked for them."""
        last = self._gauges
        if last is not None and gauges.preemptions > last.preemptions:
            self._preempted_at = now
        if last is not None and gauges.preemptions < last.preemptions:
            # It has restarted: its cache is empty.
            self._index.clear()
            self._recent.clear()
        self._gauges = gauges
        self._adopt()
        self._note_saving(gauges, before)

    def restarted(self) -> None:
        """The engine was away: whatever it held is gone."""
        self._index.clear()
        self._recent.clear()

    def computed(self, stay: "Stay", cached_tokens: int) -> None:
        """The engine says how much of a sequence's tokens it held."""
        slack = self._model.block_tokens + ESTIMATE_SLACK * cached_tokens
        self._index.correct(stay.beliefs, cached_tokens, slack)

    # What is asked ---------------------------------------------------------------------------

    def load(self, now: float) -> InstanceLoad:
        """The load now."""
        return self._ledger.load(now)

    def batch(self, now: float, lag: float) -> BatchState:
        """What runs now, by a look that was `lag` seconds late."""
        return self._ledger.batch(now, lag)

    def offer(self, question: Question, now: float) -> Offer:
        """The state of this instance for a sequence, reserving room for it if it is asked to."""
        load = self._ledger.load(now)
        reserved = question.reserve and self._reserve(question, now)
        space = self._room(load, now)
        kept = self._kept_for_others(question.sequence, now)
        block = self._model.block_tokens
        return Offer(
            load=load,
            cached=self._cached(question),
            shared=self._ledger.shared(question.prefix),
            # One block less: what a front counts in tokens may need one more.
            free_tokens=(space.free - (0 if kept is None else kept.blocks) - 1) * block,
            capacity_tokens=space.capacity * block,
            use=self._use(load),
            caching=self._caching,
            reserved=reserved,
        )

    def refusal(self, arrival: Arrival, now: float) -> RefusalReason | None:
        """Why an arrival is not taken, or None when it is."""
        if arrival.purpose is Purpose.CONTROL:
            return None
        if arrival.purpose is Purpose.WARM:
            return RefusalReason.WARMING if self.warming >= MAX_WARMING else None
        load = self._ledger.load(now)
        if arrival.bid is not None:
            asked = price(
                load,
                self._terms.model,
                arrival.length,
                arrival.remaining,
                self._terms.tpot_target_ms,
                self._cached(arrival),
                fits=True,
            )
            if has_risen(arrival.bid, asked):
                return RefusalReason.PRICE
        need = self._need(arrival)
        space = self._room(load, now)
        if need > space.capacity:
            return None  # No waiting would help; the engine itself says what it makes of it.
        kept = self._kept_for_others(arrival.sequence, now)
        return None if admit(need, space, kept).admitted else RefusalReason.MEMORY

    def enter(self, arrival: Arrival, now: float) -> "Stay":
        """Book an arrival; whoever enters one must let it leave."""
        booking = self._ledger.book(
            arrival.length,
            now,
            self._cached(arrival),
            prefix=arrival.prefix,
            blind_tokens=arrival.remaining if arrival.blind else None,
        )
        beliefs = self._index.beliefs(arrival.prefix)
        self._index.add(arrival.prefix)
        if self._reserved is not None and self._reserved[0] == arrival.sequence:
            self._reserved = None
        if arrival.purpose is Purpose.WARM:
            self.warming += 1
        stay = Stay(self, arrival, booking, beliefs)
        self._stays[stay] = None
        return stay

    def crowding(self, now: float, look_seconds: float) -> list["Stay"]:
        """Who has to leave so that memory does not run out before the next look, `look_seconds`
        from now: the newest of those that can, until the rest fits; each is named once.

        An engine whose memory runs out drops a sequence and computes it anew later, on the same
        engine; one that leaves in time can go on where there is room.
        """
        load = self._ledger.load(now)
        steps = LOOKS * look_seconds * 1000 / step_ms(load, self._terms.model)
        growth = LEAVING_TOKENS + math.ceil(steps)
        space = room(
            load,
            self._model,
            growth,
            held_tokens=self._ledger.held_tokens(),
            saved_blocks=self._saved_blocks(),
            slices=1,
        )
        block = self._model.block_tokens
        leaving = [stay for stay in self._stays if stay.asked_to_leave]
        over = space.booked - space.capacity - sum(one.blocks(block) for one in leaving)
        chosen: list[Stay] = []
        for stay in reversed(self._stays):
            if over <= 0:
                break
            if stay.may_be_asked and len(self._stays) - len(leaving) - len(chosen) > 1:
                stay.asked_to_leave = True
                chosen.append(stay)
                over -= stay.blocks(block)
        return chosen

    def stays(self) -> list["Stay"]:
        """Who is here, in the order of their arrival."""
        return list(self._stays)

    def state(self, now: float) -> BookState:
        """What the book holds."""
        load = self._ledger.load(now)
        space, kept = self._room(load, now), self._reserved
        held = kept is not None and now < kept[2]
        return BookState(
            load=load,
            block_tokens=self._model.block_tokens,
            capacity_blocks=space.capacity,
            booked_blocks=space.booked,
            free_blocks=space.free,
            margin_blocks=space.margin,
            use=self._use(load),
            caching=self._caching,
            measured=self._gauges is not None,
            prefix_blocks=len(self._index),
            prefix_tokens=self._index.tokens,
            sequences_seen=len(self._recent),
            warming=self.warming,
            reserved_blocks=kept[1].blocks if kept is not None and held else None,
            reserved_seconds=kept[2] - now if kept is not None and held else None,
        )

    # Inner life ------------------------------------------------------------------------------

    @property
    def _caching(self) -> bool:
        return self._gauges is None or self._gauges.caching

    def _adopt(self) -> None:
        """The model, with the memory that the engine really has."""
        gauges, model = self._gauges, self._terms.model
        if gauges is not None and gauges.blocks > 0 and gauges.block_tokens > 0:
            tokens = gauges.blocks * gauges.block_tokens
            model = replace(model, kv_capacity_tokens=tokens, block_tokens=gauges.block_tokens)
        self._model = model
        self._ledger.set_model(model)
        self._index.resize(self._index_tokens())

    def _index_tokens(self) -> int:
        capacity = self._model.kv_capacity_tokens if self._caching else 0
        limit = self._max_prefix_tokens
        return capacity if limit is None else min(capacity, limit)

    def _note_saving(self, gauges: Gauges, before: Computed) -> None:
        """Compare what is used with what was held from the question to the answer: at which moment
        between them the engine looked, nobody knows, and a prompt computed later would seem saved.
        """
        expected = self._ledger.still_held(before) / self._model.block_tokens
        blocks = self._model.kv_capacity_tokens // self._model.block_tokens
        self._saving = saving(expected, gauges.use * blocks)

    def _saved_blocks(self) -> int:
        return self._saving.still(self._ledger.held_tokens() / self._model.block_tokens)

    def _use(self, load: InstanceLoad) -> float:
        if self._gauges is not None:
            return min(1.0, self._gauges.use)
        return min(1.0, load.kv_tokens / self._model.kv_capacity_tokens)

    def _cached(self, arrival: Arrival | Question) -> int:
        """Tokens of a sequence that the engine should hold: of its prompt, or of what it has seen
        of the sequence itself."""
        if not self._caching:
            return 0
        seen = self._recent.get(arrival.sequence, 0)
        return min(arrival.length, max(seen, self._index.match(arrival.prefix)))

    def _need(self, arrival: Arrival | Question) -> int:
        """Blocks that a sequence takes until the next decision about it."""
        return blocks_needed(
            arrival.length,
            self._terms.handoff.slice_tokens,
            self._model.block_tokens,
            min(arrival.length, self._ledger.shared(arrival.prefix)),
        )

    def _reserve(self, question: Question, now: float) -> bool:
        """Keep room for a sequence, unless another one has it kept already."""
        held = self._reserved
        if held is not None and held[0] != question.sequence and now < held[2]:
            return False
        need = self._need(question)
        self._reserved = (question.sequence, Reservation(0, need), now + RESERVATION_SECONDS)
        return True

    def _kept_for_others(self, sequence: str, now: float) -> Reservation | None:
        held = self._reserved
        if held is None or now >= held[2] or held[0] == sequence:
            return None
        return held[1]

    def _left(self, stay: "Stay", arrival: Arrival, booking: Booking, now: float) -> None:
        """A sequence ended or moved on; the engine has seen all of it."""
        booking.finish(now)
        del self._stays[stay]
        if arrival.purpose is Purpose.WARM:
            self.warming -= 1
        if arrival.sequence:
            self._recent[arrival.sequence] = booking.length
            self._recent.move_to_end(arrival.sequence)
            if len(self._recent) > MAX_RECENT:
                self._recent.popitem(last=False)

    def _room(self, load: InstanceLoad, now: float) -> Room:
        return room(
            load,
            self._model,
            self._terms.handoff.slice_tokens,
            held_tokens=self._ledger.held_tokens(),
            saved_blocks=self._saved_blocks(),
            since_preemption_ms=(now - self._preempted_at) * 1000,
        )


class Stay:
    """One sequence on this instance, from its arrival until it leaves."""

    __slots__ = (
        "_arrival",
        "_book",
        "_open",
        "asked_to_leave",
        "beliefs",
        "booking",
        "leave_please",
    )

    def __init__(
        self,
        book: InstanceBook,
        arrival: Arrival,
        booking: Booking,
        beliefs: tuple[Belief, ...],
    ) -> None:
        self._book = book
        self.beliefs = beliefs
        """What of its prompt the engine was believed to hold when it came."""
        self._arrival = arrival
        self._open = True
        self.booking = booking
        self.asked_to_leave = False
        """Whether its front was asked to take it away."""
        self.leave_please: Callable[[bool], None] | None = None
        """Asks it; set by whoever relays its answer, where that is possible. The argument tells
        whether the instance leaves, rather than runs out of memory."""

    @property
    def may_be_asked(self) -> bool:
        """Whether its front can take it away, and was not asked to yet."""
        return self.can_go and not self.asked_to_leave

    @property
    def can_go(self) -> bool:
        """Whether its front can take it away."""
        called = self.leave_please is not None
        return self._arrival.movable and called and self.booking.grown > 0

    def blocks(self, block_tokens: int) -> int:
        """KV blocks that become free when it leaves; what it shares does not."""
        own = self.booking.length - (self.booking.prefix[-1].tokens if self.booking.prefix else 0)
        return max(1, own // block_tokens)

    def computed(self, cached_tokens: int) -> None:
        """The engine says how many of its tokens it held."""
        self._book.computed(self, cached_tokens)

    def leave(self, now: float) -> None:
        """It ended, was aborted, lost or handed over. Harmless when it has left."""
        if self._open:
            self._open = False
            # Whoever is called by this holds the stay.
            self.leave_please = None
            self._book._left(self, self._arrival, self.booking, now)
