"""Prompts that one instance has to compute, and the share of its time that goes into it."""

import math
from collections import deque
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_policy.ledger import PREFILL_SHARE_SECONDS
from cascade_policy.load import MAX_PREFILL_SHARE
from cascade_simulator.live_sequence import Prefill

_TIME_CONSTANT_MS: Final = PREFILL_SHARE_SECONDS * 1000
_NEGLIGIBLE: Final = 1e-3


class PrefillQueue:
    """Prefill jobs in order: at most one is partly computed, the others wait.

    `booked` is the model with which waiting work is priced, the one that policies believe in.
    """

    __slots__ = (
        "booked",
        "count",
        "tokens",
        "tokens_squared",
        "waiting",
        "waiting_tokens",
        "work_ms",
    )

    def __init__(self, booked: EngineModel) -> None:
        self.booked = booked
        self.waiting: deque[Prefill] = deque()
        self.waiting_tokens = 0
        self.count = 0
        """Jobs, running ones included."""
        self.tokens = 0
        """Sum of their lengths."""
        self.tokens_squared = 0
        self.work_ms = 0.0
        """W."""

    def add(self, job: Prefill, cached: int, *, first: bool = False) -> None:
        """Queue a job of which the instance holds `cached` tokens already."""
        self.count += 1
        self.tokens += job.length
        self.tokens_squared += job.length * job.length
        self.waiting_tokens += job.length
        if first:
            self.waiting.appendleft(job)
        else:
            self.waiting.append(job)
        job.done = 0
        self.book(job, cached)

    def book(self, job: Prefill, done: int) -> None:
        """Book what is left of a job with `done` tokens computed."""
        left = self.booked.prefill_ms(job.length, done)
        self.work_ms += left - job.work_ms
        job.work_ms = left

    def start(self) -> Prefill:
        """Take the oldest job off the waiting ones; it stays booked."""
        job = self.waiting.popleft()
        self.waiting_tokens -= job.length
        return job

    def drop(self, job: Prefill) -> None:
        """Forget a job that is done or no longer wanted; it must have been started or waiting."""
        if not job.admitted:
            self.waiting.remove(job)
            self.waiting_tokens -= job.length
        self.count -= 1
        self.tokens -= job.length
        self.tokens_squared -= job.length * job.length
        # Sums of floats leave crumbs: an empty queue has no work.
        self.work_ms = self.work_ms - job.work_ms if self.count else 0.0
        job.work_ms = 0.0


class PrefillShare:
    """sigma: the share of time that went into prefill, an exponential average over 2 s."""

    __slots__ = ("_at", "_value")

    def __init__(self) -> None:
        self._at = 0.0
        self._value = 0.0

    def add(self, start_ms: float, end_ms: float, prefill_ms: float) -> None:
        """Count a step from `start_ms` to `end_ms` of which `prefill_ms` went into prefill."""
        duration = end_ms - start_ms
        kept = math.exp(-(end_ms - self._at) / _TIME_CONSTANT_MS)
        spread = -math.expm1(-duration / _TIME_CONSTANT_MS) / duration
        self._value = min(1.0, self._value * kept + prefill_ms * spread)
        self._at = end_ms

    def at(self, now_ms: float) -> float:
        """sigma at `now_ms`, 0 to 0.9; it decays while nothing is prefilled."""
        if self._value == 0.0:
            return 0.0
        value = self._value * math.exp((self._at - now_ms) / _TIME_CONSTANT_MS)
        if value < _NEGLIGIBLE:
            return 0.0
        return value if value < MAX_PREFILL_SHARE else MAX_PREFILL_SHARE
