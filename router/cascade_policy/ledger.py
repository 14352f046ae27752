"""The book of one engine: the sequences in it, their memory, and the prefill that waits.

All requests of an engine pass its router, so the number of sequences and the tokens they hold are
exact, but for sequences whose tokens nobody sees: those are taken to grow at the pace of the batch.
Prefill progress is not visible before the first token, so the waiting prefill work is an estimate
that never errs by more than one prompt.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.live_prefixes import LivePrefixes
from cascade_policy.load import MAX_PREFILL_SHARE, InstanceLoad
from cascade_policy.prefix_index import Block
from cascade_policy.step_window import BatchState

PREFILL_SHARE_SECONDS: Final = 2.0
"""Time constant of the average behind sigma."""
PREFILL_FLOOR: Final = 0.05
"""Share of a prompt's prefill work that stays booked until its first token is seen."""
_NEGLIGIBLE_SHARE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Computed:
    """What of an engine's sequences was computed at some moment."""

    tokens: int
    """What several sequences share counts once."""
    lengths: Mapping[int, int]
    """Tokens of each sequence, by the number of its booking."""


class LoadLedger:
    """The book of one engine. Times are seconds of one clock; a clock that jumps back stands still.

    Booking and finishing take constant time (and one step per block of the prompt), reading the
    load one step per sequence; a token takes none: whoever relays it counts it on the booking.
    """

    __slots__ = (
        "_at",
        "_kv_tokens",
        "_kv_tokens_squared",
        "_model",
        "_numbers",
        "_open",
        "_pauses",
        "_prefilled",
        "_prefixes",
        "_queue",
        "_share",
        "_waiting_ms",
    )

    def __init__(self, model: EngineModel, now: float) -> None:
        self._model = model
        self._at = now
        self._open: dict[Booking, None] = {}
        self._kv_tokens = 0
        self._kv_tokens_squared = 0
        # Prompts before their first token, oldest first; a dict, so that any one can leave.
        self._queue: dict[Booking, None] = {}
        self._waiting_ms = 0.0
        self._share = 0.0
        self._prefixes = LivePrefixes()
        self._numbers = self._prefilled = self._pauses = 0

    def set_model(self, model: EngineModel) -> None:
        """Count with another engine model; work that is booked keeps its price."""
        self._model = model

    def book(
        self,
        length: int,
        now: float,
        cached: int = 0,
        *,
        prefix: Sequence[Block] = (),
        blind_tokens: float | None = None,
    ) -> "Booking":
        """Enter a request: `length` tokens, of which the engine holds the first `cached`.

        `prefix` holds the blocks of its prompt, so that what sequences share is counted once.
        `blind_tokens` is the expected output of one whose tokens nobody sees.
        """
        self._advance(now)
        work = self._model.prefill_ms(length, min(cached, length))
        self._numbers += 1
        booking = Booking(
            self,
            self._numbers,
            length,
            min(cached, length),
            work,
            self._at,
            tuple(prefix),
            blind_tokens,
        )
        self._open[booking] = None
        self._kv_tokens += length
        self._kv_tokens_squared += length * length
        self._queue[booking] = None
        self._waiting_ms += work
        self._prefixes.hold(booking.prefix)
        return booking

    def load(self, now: float) -> InstanceLoad:
        """The load at `now`."""
        self._advance(now)
        self._count_growth()
        return InstanceLoad(
            len(self._open),
            self._kv_tokens,
            self._kv_tokens_squared,
            self._waiting_ms,
            min(MAX_PREFILL_SHARE, self._share),
        )

    def batch(self, now: float, lag: float) -> BatchState:
        """The batch at `now`, by a look that was `lag` seconds late."""
        load = self.load(now)
        return BatchState(
            at=now,
            tokens={
                booking.number: booking.grown
                for booking in self._open
                if booking.blind_tokens is None and booking not in self._queue
            },
            sequences=load.sequences - len(self._queue),
            kv_tokens=self._kv_tokens - sum(booking.length for booking in self._queue),
            prefilled=self._prefilled,
            pauses=self._pauses,
            lag=lag,
        )

    def held_tokens(self) -> int:
        """Tokens in memory: like S, but what several sequences share counts once."""
        self._count_growth()
        return max(0, self._kv_tokens - self._prefixes.saved_tokens)

    def computed(self) -> Computed:
        """Of them, those of sequences whose prompts are computed: the others take their memory
        little by little."""
        waiting = sum(booking.length for booking in self._queue)
        lengths = {
            booking.number: booking.length for booking in self._open if booking not in self._queue
        }
        return Computed(max(0, self.held_tokens() - waiting), lengths)

    def still_held(self, computed: Computed) -> int:
        """At least so many of the tokens that were computed then are held now as well."""
        here = {booking.number for booking in self._open}
        gone = sum(length for number, length in computed.lengths.items() if number not in here)
        return max(0, computed.tokens - gone)

    def shared(self, prefix: Sequence[Block]) -> int:
        """Tokens at the start of a prompt that a sequence in the engine holds, too."""
        return self._prefixes.match(prefix)

    def _advance(self, now: float) -> None:
        """Let time pass: sigma decays, the prompts at the head of the queue are computed."""
        elapsed = now - self._at
        if elapsed <= 0:
            return
        self._at = now
        self._share *= math.exp(-elapsed / PREFILL_SHARE_SECONDS)
        if self._share < _NEGLIGIBLE_SHARE:
            self._share = 0.0
        done = elapsed * 1000 / self._stretch() if self._queue else 0.0
        while self._queue and done > 0:
            head = next(iter(self._queue))
            floor = 0.0 if head.blind_tokens is not None else PREFILL_FLOOR * head.work_ms
            drained = min(done, max(0.0, head.waiting_ms - floor))
            head.waiting_ms -= drained
            self._waiting_ms -= drained
            done -= drained
            if head.waiting_ms > 0:
                return
            # Nobody will see its first token: when its work is done, it decodes.
            self._computed(head)

    def _stretch(self) -> float:
        return self._model.stretch(self._step_ms())

    def _step_ms(self) -> float:
        """D, by what was counted last."""
        model, sequences = self._model, len(self._open)
        penalty = model.penalty(sequences, self._kv_tokens, self._kv_tokens_squared)
        return model.decode_ms(sequences, self._kv_tokens, penalty)

    def _count_growth(self) -> None:
        """Add what the sequences have grown by since they were last looked at."""
        step_ms = self._step_ms() / (1 - min(MAX_PREFILL_SHARE, self._share))
        for booking in self._open:
            if booking.blind_tokens is not None and booking not in self._queue:
                passed = (self._at - booking.started_at) * 1000 / step_ms
                booking.grown = max(booking.grown, int(min(booking.blind_tokens, passed)))
            more = booking.grown - booking.counted
            if more:
                length = booking.start_length + booking.counted
                self._kv_tokens += more
                self._kv_tokens_squared += more * (length + length + more)
                booking.counted = booking.grown

    def _first_token(self, booking: "Booking", now: float) -> None:
        """Engines compute prompts in order, so everything older has been computed as well."""
        self._advance(now)
        if booking in self._queue:
            self._computed(booking)

    def _computed(self, booking: "Booking") -> None:
        older: list[Booking] = []
        for entry in self._queue:
            older.append(entry)
            if entry is booking:
                break
        self._remember(sum(entry.work_ms for entry in older), older[0].started_at)
        self._prefilled += sum(entry.start_length - entry.cached for entry in older)
        self._drop(older)

    def _remember(self, work_ms: float, started_at: float) -> None:
        """Add completed prefill work to sigma, spread evenly over the time since `started_at`.

        The exponential average of a constant rate r over a span of x time constants is
        r * (1 - exp(-x)); written with the work, so that a span of zero has its limit.
        """
        span = (self._at - started_at) / PREFILL_SHARE_SECONDS
        spread = -math.expm1(-span) / span if span > 1e-9 else 1.0
        self._share = min(1.0, self._share + work_ms / 1000 / PREFILL_SHARE_SECONDS * spread)

    def _drop(self, entries: Iterable["Booking"]) -> None:
        """Take prompts off the queue; the next one is being computed from this moment on."""
        for entry in entries:
            del self._queue[entry]
            self._waiting_ms -= entry.waiting_ms
            entry.waiting_ms = 0.0
            entry.started_at = self._at
        if not self._queue:
            self._waiting_ms = 0.0
            return
        self._waiting_ms = max(0.0, self._waiting_ms)
        head = next(iter(self._queue))
        head.started_at = max(head.started_at, self._at)

    def _finish(self, booking: "Booking", now: float) -> None:
        self._advance(now)
        if booking in self._queue:
            self._drop((booking,))
        del self._open[booking]
        length = booking.start_length + booking.counted
        self._kv_tokens -= length
        self._kv_tokens_squared -= length * length
        self._prefixes.release(booking.prefix)


class Booking:
    """One sequence in a ledger. `first_token` and `finish` do nothing after `finish`."""

    __slots__ = (
        "_ledger",
        "_open",
        "blind_tokens",
        "cached",
        "counted",
        "grown",
        "number",
        "prefix",
        "start_length",
        "started_at",
        "waiting_ms",
        "work_ms",
    )

    def __init__(
        self,
        ledger: LoadLedger,
        number: int,
        length: int,
        cached: int,
        work_ms: float,
        started_at: float,
        prefix: tuple[Block, ...],
        blind_tokens: float | None,
    ) -> None:
        self._ledger = ledger
        self._open = True
        self.number = number
        self.cached = cached
        """Tokens at its start that the engine held."""
        self.start_length = length
        """Tokens of the sequence when it was booked."""
        self.grown = 0
        """Tokens that it has grown by since; whoever relays its answer keeps this up to date."""
        self.counted = 0
        """What of it the ledger has counted."""
        self.prefix = prefix
        self.blind_tokens = blind_tokens
        self.work_ms = work_ms
        self.waiting_ms = work_ms
        self.started_at = started_at
        """When the engine turned to its prompt; once that is computed, when it was."""

    @property
    def length(self) -> int:
        """Tokens of the sequence: prompt and output so far."""
        return self.start_length + self.grown

    def first_token(self, now: float) -> None:
        """The prompt is computed (for an answer that does not stream: its headers are here)."""
        if self._open:
            self._ledger._first_token(self, now)

    def paused(self) -> None:
        """The client was held back: the sequence does not show the engine's pace."""
        self._ledger._pauses += 1

    def finish(self, now: float) -> None:
        """The sequence left the engine: completed, aborted, lost or handed over."""
        if self._open:
            self._open = False
            self._ledger._finish(self, now)
