"""Runs the batch in real time: each step ends when its model says, whatever the machine does."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from cascade_policy.engine_model import EngineModel
from e2e.engine_simulator.batch import Batch, LiveSequence, Step
from e2e.engine_simulator.faults import Faults
from e2e.engine_simulator.metrics import Metrics

MOST_LAG_SECONDS: Final = 0.25
"""How far behind schedule the engine may run before it gives the lost time up."""


class Receiver(Protocol):
    """Takes the tokens of one sequence."""

    def token(self, number: int, finish_reason: str | None) -> None:
        """One more id; `finish_reason` is set on the last one."""


class Request:
    """A sequence in the engine, who listens to it, and its times (seconds of the loop's clock)."""

    __slots__ = ("arrived", "first", "newest", "receiver", "sequence", "started")

    def __init__(self, sequence: LiveSequence, receiver: Receiver, arrived: float) -> None:
        self.sequence = sequence
        self.receiver = receiver
        self.arrived = arrived
        self.started = 0.0
        self.first = 0.0
        self.newest = 0.0


class Engine:
    """One engine: submit sequences, abort them, listen to their tokens."""

    def __init__(
        self,
        model: EngineModel,
        metrics: Metrics,
        faults: Faults,
        crash: Callable[[], None],
        *,
        prefix_caching: bool = True,
    ) -> None:
        self.batch = Batch(model, prefix_caching=prefix_caching)
        self.metrics = metrics
        self.faults = faults
        self._crash = crash
        self._loop = asyncio.get_running_loop()
        self._requests: dict[LiveSequence, Request] = {}
        self._busy = False
        self._left: asyncio.Future[None] | None = None

    async def drained(self) -> None:
        """Wait until nothing runs or waits."""
        while self._requests:
            self._left = self._loop.create_future()
            await self._left

    def submit(self, sequence: LiveSequence, receiver: Receiver) -> None:
        """Queue a sequence; its tokens go to `receiver`."""
        now = self._loop.time()
        self._requests[sequence] = Request(sequence, receiver, now)
        self.batch.submit(sequence)
        if not self._busy:
            self._start(now)

    def abort(self, sequence: LiveSequence) -> None:
        """Drop a sequence that nobody listens to any more; a finished one is left alone."""
        if self._requests.pop(sequence, None) is not None:
            self.batch.abort(sequence)
            self._note_left()

    def stop(self, sequence: LiveSequence) -> None:
        """End a sequence whose text has come to a stop string."""
        self.abort(sequence)
        self.metrics.finished["stop"] += 1

    def strike_reset(self, tokens: int) -> bool:
        """Whether a stream that has sent `tokens` tokens must be reset now."""
        return self.faults.strike_reset(tokens)

    def set_faults(self, faults: Faults) -> None:
        """Replace the faults in force."""
        self.faults = faults
        if not self._busy:
            self._start(self._loop.time())

    def _start(self, now: float) -> None:
        step = None if self.faults.hang else self.batch.start_step()
        self._busy = step is not None
        if step is None:
            return
        for sequence, _ in step.prefilling:
            request = self._requests[sequence]
            if not request.started:
                self._note_start(request, now)
        deadline = now + step.seconds
        self._loop.call_at(deadline, self._finish, step, deadline)

    def _finish(self, step: Step, deadline: float) -> None:
        if self.faults.hang:
            # The step never ends: its sequences stay where they are until the fault is lifted.
            self._loop.call_later(0.05, self._finish, step, deadline)
            return
        produced = self.batch.finish_step(step)
        self.metrics.iteration_tokens.observe(step.tokens)
        self.metrics.generation_tokens += len(produced)
        for sequence in produced:
            self._deliver(sequence, deadline)
        if self.faults.strike_crash(len(produced)):
            self._crash()
        lag = self._loop.time() - deadline
        if lag > MOST_LAG_SECONDS:
            self.metrics.lag_seconds += lag
            deadline += lag
        self._start(deadline)

    def _deliver(self, sequence: LiveSequence, now: float) -> None:
        # A receiver may abort its neighbours: a reset connection ends more than one request.
        request = self._requests.get(sequence)
        if request is None:
            return
        reason = sequence.finish_reason
        if sequence.generated == 1:
            request.first = now
            self.metrics.time_to_first_token.observe(now - request.arrived)
        else:
            self.metrics.inter_token_latency.observe(now - request.newest)
        request.newest = now
        if reason is not None:
            del self._requests[sequence]
            self._note_end(request, reason, now)
        request.receiver.token(sequence.last, reason)
        if reason is not None:
            self._note_left()

    def _note_left(self) -> None:
        if self._left is not None and not self._left.done():
            self._left.set_result(None)

    def _note_start(self, request: Request, now: float) -> None:
        request.started = now
        self.metrics.queue_time.observe(now - request.arrived)
        self.metrics.prompt_tokens += request.sequence.prompt_length
        self.metrics.cached_tokens += request.sequence.cached_tokens

    def _note_end(self, request: Request, reason: str, now: float) -> None:
        sequence, metrics = request.sequence, self.metrics
        metrics.finished[reason] += 1
        metrics.e2e_latency.observe(now - request.arrived)
        metrics.request_prompt_tokens.observe(sequence.prompt_length)
        metrics.request_generation_tokens.observe(sequence.generated)
        if sequence.generated > 1:
            decoding = now - request.first
            metrics.time_per_output_token.observe(decoding / (sequence.generated - 1))
