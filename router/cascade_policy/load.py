"""The load of an instance: what its router knows of it, and the book that keeps count.

All requests of an engine pass its router, so the number of sequences and the tokens they hold are
exact. Prefill progress is not visible before the first token, so the waiting prefill work is an
estimate that never errs by more than one prompt.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cascade_policy.engine_model import EngineModel

MAX_PREFILL_SHARE: Final = 0.9
"""Upper limit of sigma: beyond it `1 / (1 - sigma)` says more about noise than about load."""
PREFILL_SHARE_SECONDS: Final = 2.0
"""Time constant of the average behind sigma."""
PREFILL_FLOOR: Final = 0.05
"""Share of a prompt's prefill work that stays booked until its first token is seen."""
_NEGLIGIBLE_SHARE: Final = 1e-3


class InvalidLoad(ValueError):
    """The text of another router is no load; the message names the field that is wrong."""


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """What one instance has to do. Sequences that wait in the engine count like running ones."""

    sequences: int
    """B."""
    kv_tokens: int
    """S, the sum of the lengths of the sequences."""
    kv_tokens_squared: int
    """Sum of the squared lengths, for the heterogeneity penalty H."""
    waiting_prefill_ms: float
    """W, GPU ms of prefill that are booked and not done."""
    prefill_share: float
    """sigma, the share of time that went into prefill lately: 0 to 0.9."""

    def to_wire(self) -> dict[str, float | int]:
        """The wire form: a small JSON object with one-letter names."""
        return {
            "b": self.sequences,
            "s": self.kv_tokens,
            "s2": self.kv_tokens_squared,
            "w": round(self.waiting_prefill_ms, 3),
            "p": round(self.prefill_share, 4),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, object]) -> "InstanceLoad":
        """Read the wire form; unknown names are ignored. Raises InvalidLoad."""
        return cls(
            sequences=_count(data, "b"),
            kv_tokens=_count(data, "s"),
            kv_tokens_squared=_count(data, "s2"),
            waiting_prefill_ms=_amount(data, "w"),
            prefill_share=min(MAX_PREFILL_SHARE, _amount(data, "p")),
        )

    def plus(self, length: int) -> "InstanceLoad":
        """The load with one more sequence of `length` tokens, its prompt already computed."""
        return InstanceLoad(
            self.sequences + 1,
            self.kv_tokens + length,
            self.kv_tokens_squared + length * length,
            self.waiting_prefill_ms,
            self.prefill_share,
        )

    def minus(self, length: int) -> "InstanceLoad":
        """The load without one of its sequences, `length` tokens long; never below zero."""
        return InstanceLoad(
            max(0, self.sequences - 1),
            max(0, self.kv_tokens - length),
            max(0, self.kv_tokens_squared - length * length),
            self.waiting_prefill_ms,
            self.prefill_share,
        )


IDLE: Final = InstanceLoad(0, 0, 0, 0.0, 0.0)


class LoadLedger:
    """The book of one engine. Times are seconds of one clock; a clock that jumps back stands still.

    Booking, every token and reading the load take constant time.
    """

    __slots__ = (
        "_at",
        "_bookings",
        "_kv_tokens",
        "_kv_tokens_squared",
        "_model",
        "_queue",
        "_share",
        "_waiting_ms",
    )

    def __init__(self, model: EngineModel, now: float) -> None:
        self._model = model
        self._at = now
        self._bookings = 0
        self._kv_tokens = 0
        self._kv_tokens_squared = 0
        # Prompts before their first token, oldest first; a dict, so that any one can leave.
        self._queue: dict[Booking, None] = {}
        self._waiting_ms = 0.0
        self._share = 0.0

    def set_model(self, model: EngineModel) -> None:
        """Count with another engine model; work that is booked keeps its price."""
        self._model = model

    def book(self, prompt_length: int, now: float, cached: int = 0) -> "Booking":
        """Enter a request: `prompt_length` tokens, of which the engine holds the first `cached`."""
        self._advance(now)
        work = self._model.prefill_ms(prompt_length, min(cached, prompt_length))
        booking = Booking(self, prompt_length, work, self._at)
        self._bookings += 1
        self._kv_tokens += prompt_length
        self._kv_tokens_squared += prompt_length * prompt_length
        self._queue[booking] = None
        self._waiting_ms += work
        return booking

    def load(self, now: float) -> InstanceLoad:
        """The load at `now`."""
        self._advance(now)
        return InstanceLoad(
            self._bookings,
            self._kv_tokens,
            self._kv_tokens_squared,
            self._waiting_ms,
            min(MAX_PREFILL_SHARE, self._share),
        )

    def _advance(self, now: float) -> None:
        """Let time pass: sigma decays, the prompt at the head of the queue is computed."""
        elapsed = now - self._at
        if elapsed <= 0:
            return
        self._at = now
        self._share *= math.exp(-elapsed / PREFILL_SHARE_SECONDS)
        if self._share < _NEGLIGIBLE_SHARE:
            self._share = 0.0
        if not self._queue:
            return
        head = next(iter(self._queue))
        done = elapsed * 1000 / self._stretch()
        drained = min(done, max(0.0, head.waiting_ms - PREFILL_FLOOR * head.work_ms))
        head.waiting_ms -= drained
        self._waiting_ms -= drained

    def _stretch(self) -> float:
        model = self._model
        penalty = model.penalty(self._bookings, self._kv_tokens, self._kv_tokens_squared)
        return model.stretch(model.decode_ms(self._bookings, self._kv_tokens, penalty))

    def _first_token(self, booking: "Booking", now: float) -> None:
        """Engines compute prompts in order, so everything older has been computed as well."""
        self._advance(now)
        if booking not in self._queue:
            return
        older: list[Booking] = []
        for entry in self._queue:
            older.append(entry)
            if entry is booking:
                break
        self._remember(sum(entry.work_ms for entry in older), older[0].started_at)
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
        self._bookings -= 1
        self._kv_tokens -= booking.length
        self._kv_tokens_squared -= booking.length * booking.length


class Booking:
    """One sequence in a ledger. Calls after `finish` do nothing."""

    __slots__ = ("_ledger", "_open", "length", "started_at", "waiting_ms", "work_ms")

    def __init__(self, ledger: LoadLedger, length: int, work_ms: float, started_at: float) -> None:
        self._ledger = ledger
        self._open = True
        self.length = length
        """Tokens of the sequence: prompt and output so far."""
        self.work_ms = work_ms
        self.waiting_ms = work_ms
        self.started_at = started_at

    def first_token(self, now: float) -> None:
        """The prompt is computed (for an answer that does not stream: its headers are here)."""
        if self._open:
            self._ledger._first_token(self, now)

    def token(self, count: int = 1) -> None:
        """The sequence grew by `count` tokens."""
        if self._open:
            ledger, length = self._ledger, self.length
            ledger._kv_tokens += count
            ledger._kv_tokens_squared += count * (length + length + count)
            self.length = length + count

    def finish(self, now: float) -> None:
        """The sequence left the engine: completed, aborted, lost or handed over."""
        if self._open:
            self._open = False
            self._ledger._finish(self, now)


def _count(data: Mapping[str, object], name: str) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidLoad(f"load: {name} must be a whole number of at least 0, not {value!r}")
    return value


def _amount(data: Mapping[str, object], name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidLoad(f"load: {name} must be a number, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise InvalidLoad(f"load: {name} must be finite and at least 0, not {value!r}")
    return float(value)
