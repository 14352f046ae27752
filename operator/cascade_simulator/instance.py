"""One inference engine: continuous batching with chunked prefill, in steps.

A step takes up to `chunk_tokens` tokens: one of every decoding sequence, the rest of prompts in
order of their arrival, several of which may share a chunk. It lasts as long as the engine model
says for its batch and chunks. No clock of its own: the cluster starts a step, lets its time pass,
and finishes it.
"""

from dataclasses import dataclass, field

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.agenda import Agenda
from cascade_simulator.decode_set import DecodeSet
from cascade_simulator.kv_memory import KvMemory
from cascade_simulator.live_sequence import LiveSequence, Prefill
from cascade_simulator.prefill_queue import PrefillQueue, PrefillShare
from cascade_simulator.prefix_cache import PrefixCache
from cascade_simulator.workload import Request


@dataclass(slots=True)
class Tally:
    """What one instance has done so far; the names are those of `outcome.Counters`."""

    recomputed: int = 0
    prefilled: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    steps: int = 0


@dataclass(slots=True)
class StepEnd:
    """What a step brought, beside one token for each sequence that decodes."""

    ended: list[LiveSequence] = field(default_factory=list)
    """Sequences that emitted their last token; they hold nothing any more."""
    due: list[LiveSequence] = field(default_factory=list)
    """Decoding sequences that are due for review."""
    first: list[LiveSequence] = field(default_factory=list)
    """Sequences that emitted their first token here, ended ones included."""
    warmed: list[LiveSequence] = field(default_factory=list)
    """Sequences that decode elsewhere and whose warm-up is complete."""


@dataclass(slots=True)
class _Chunk:
    job: Prefill
    tokens: int
    cancelled: bool = False


class SimulatedInstance:
    """One engine, and what policies see of it when their state is fresh (`policy.Instance`)."""

    __slots__ = (
        "_agenda",
        "_chunks",
        "_coming",
        "_joining",
        "_partial",
        "_prefill_ms",
        "_resumed",
        "_share",
        "_step_start",
        "alive",
        "busy",
        "decodes",
        "epoch",
        "inbound",
        "index",
        "memory",
        "model",
        "preempted",
        "prefills",
        "tally",
    )

    def __init__(
        self,
        index: int,
        model: EngineModel,
        booked: EngineModel,
        agenda: Agenda,
        review_tokens: int | None,
        cache: PrefixCache | None,
    ) -> None:
        self.index = index
        self.model = model
        self.alive = True
        self.busy = False
        """Whether a step is under way."""
        self.epoch = 0
        """Counts its deaths: a step that began in an earlier life never ends."""
        self.inbound = 0
        """Warm-ups and copies under way to it."""
        self.decodes = DecodeSet(review_tokens)
        self.prefills = PrefillQueue(booked)
        self.memory = KvMemory(model, self.decodes, cache)
        self.preempted: list[LiveSequence] = []
        """Decoding sequences that were thrown out; whoever reads the list empties it."""
        self.tally = Tally()
        self._agenda = agenda
        self._share = PrefillShare()
        self._step_start = 0.0
        # Sequences on their way here that no queue holds, with their length.
        self._coming: dict[LiveSequence, int] = {}
        self._joining: dict[LiveSequence, None] = {}
        self._resumed: list[LiveSequence] = []
        # The one prompt that is partly computed, and what the step under way computes.
        self._partial: Prefill | None = None
        self._chunks: list[_Chunk] = []
        self._prefill_ms = 0.0

    @property
    def load(self) -> InstanceLoad:
        """B, S, S2, W and sigma now; sequences that are queued or on their way count."""
        decodes, prefills = self.decodes, self.prefills
        count = decodes.count + prefills.count
        tokens = decodes.tokens + prefills.tokens
        squared = decodes.tokens_squared + prefills.tokens_squared
        if self._coming:
            count += len(self._coming)
            tokens += sum(self._coming.values())
            squared += sum(length * length for length in self._coming.values())
        # Sums of floats leave crumbs below zero.
        work = prefills.work_ms if prefills.work_ms > 0 else 0.0
        return InstanceLoad(count, tokens, squared, work, self._share.at(self._agenda.now))

    @property
    def waiting_sequences(self) -> int:
        """Sequences that no step has included yet."""
        return len(self.prefills.waiting)

    @property
    def waiting_tokens(self) -> int:
        """Tokens that they need in the KV cache."""
        return self.prefills.waiting_tokens

    def cached_tokens(self, request: Request) -> int:
        """Tokens at the start of the prompt that the prefix cache holds."""
        return self.memory.cached(request)

    @property
    def last_token_ms(self) -> float:
        """When its decoding sequences got their newest token."""
        return self._step_start if self.busy else self._agenda.now

    def has_room(self, length: int) -> bool:
        """Whether a sequence of `length` fits beside all that runs, waits and is on its way."""
        count = self.decodes.count + self.prefills.count + len(self._coming)
        tokens = self.memory.tokens + self.prefills.waiting_tokens + length
        return count < self.model.max_sequences and tokens <= self.model.kv_capacity_tokens

    def enqueue(self, job: Prefill) -> None:
        """Queue a prompt, behind those that wait."""
        self._coming.pop(job.sequence, None)
        self.memory.unreserve(job.sequence)
        self.prefills.add(job, self.memory.computed(job)[0])

    def expect(self, sequence: LiveSequence, length: int, reserved: int) -> None:
        """Count a sequence that is on its way, and keep `reserved` tokens of KV free for it."""
        self._coming[sequence] = length
        self.memory.reserve(sequence, reserved)

    def join(self, sequence: LiveSequence) -> None:
        """Let a sequence whose KV cache has arrived decode from the next step on."""
        self._joining[sequence] = None

    def forget(self, sequence: LiveSequence) -> None:
        """A sequence that was on its way does not come."""
        self._coming.pop(sequence, None)
        self._joining.pop(sequence, None)
        self.memory.unreserve(sequence)
        self.memory.forget_warm(sequence)

    def leave(self, sequence: LiveSequence) -> None:
        """Take a decoding sequence out; the token of a step under way is lost to it."""
        self.decodes.remove(sequence)
        self.memory.leave(sequence)
        sequence.known = max(sequence.known, sequence.still_length - 1)

    def withdraw(self, job: Prefill) -> None:
        """Take out a prompt that is no longer wanted here, whether it waits or is computed."""
        if job.admitted:
            self._stop(job)
        self.memory.forget_warm(job.sequence)
        self.prefills.drop(job)

    def waiting_job(self, sequence: LiveSequence) -> Prefill | None:
        """The job of a sequence that waits for its first step here."""
        for job in self.prefills.waiting:
            if job.sequence is sequence and not job.warm_up:
                return job
        return None

    def die(self) -> list[LiveSequence]:
        """Lose everything. Returns the sequences that lived here, oldest first."""
        lost = list(self.decodes)
        for sequence in lost:
            self.leave(sequence)
        jobs = [] if self._partial is None else [self._partial]
        jobs += [chunk.job for chunk in self._chunks if not chunk.cancelled]
        jobs += self.prefills.waiting
        lost += [job.sequence for job in dict.fromkeys(jobs) if not job.warm_up]
        lost += self._joining
        self.memory.clear()
        self.prefills = PrefillQueue(self.prefills.booked)
        self._share = PrefillShare()
        self._partial, self._chunks, self._resumed = None, [], []
        self._coming.clear()
        self._joining.clear()
        self.alive, self.busy = False, False
        self.epoch += 1
        return lost

    def start_step(self) -> float | None:
        """Decide who takes part in the next step. Returns its time in ms; None: nothing to do."""
        self._let_join()
        self._make_room()
        budget = self.model.chunk_tokens - self.decodes.count
        if self._partial is not None and budget > 0:
            budget -= self._take(self._partial, budget)
        self._admit(budget)
        self.busy = bool(self.decodes.count or self._chunks)
        if not self.busy:
            return None
        self._step_start = self._agenda.now
        self.tally.steps += 1
        return self._step_ms()

    def finish_step(self) -> StepEnd:
        """Give each sequence of the step its token. The instance stays busy: another step follows,
        or `start_step` finds nothing to do."""
        end = StepEnd()
        for sequence in self.decodes.advance():
            if sequence.ended:
                self.leave(sequence)
                end.ended.append(sequence)
            else:
                self.decodes.schedule(sequence)
                end.due.append(sequence)
        if self._resumed:
            end.first += self._resumed
            self._resumed = []
        if self._chunks:
            self._share.add(self._step_start, self._agenda.now, self._prefill_ms)
            for chunk in self._chunks:
                if not chunk.cancelled:
                    self._finish_chunk(chunk.job, chunk.tokens, end)
            self._chunks = []
        self._step_start = self._agenda.now
        return end

    def _step_ms(self) -> float:
        """Time of the step: C0 + C1 B + C2 H S + the prefill of its chunks."""
        model, decodes, booked = self.model, self.decodes, self.prefills.booked
        count, tokens = decodes.count, decodes.tokens
        penalty = 1.0
        if model.heterogeneity:
            penalty = model.penalty(count, tokens, decodes.tokens_squared)
        prefill = believed = 0.0
        for chunk in self._chunks:
            done = chunk.job.done
            prefill += model.prefill_ms(done + chunk.tokens, done)
            believed += booked.prefill_ms(done + chunk.tokens, done)
        self._prefill_ms = believed
        return model.decode_ms(count, tokens, penalty) + prefill

    def _let_join(self) -> None:
        for sequence in self._joining:
            del self._coming[sequence]
            self.memory.unreserve(sequence)
            self._decode(sequence)
            self._resumed.append(sequence)
        self._joining.clear()

    def _make_room(self) -> None:
        """Throw out the newest until this step's tokens fit. Nobody comes in at this step then: who
        was thrown out heads the queue, and did not fit a moment ago."""
        while self.memory.overflows():
            self._preempt()

    def _preempt(self) -> None:
        """Send the newest back to the head of the queue; its KV is computed again later."""
        job = self._partial
        self.tally.preemptions += 1
        if job is not None:
            self.withdraw(job)
            job.admitted = False
        else:
            sequence = self.decodes.newest()
            self.leave(sequence)
            self.preempted.append(sequence)
            if sequence in self._resumed:
                self._resumed.remove(sequence)
            job = Prefill(sequence)
        self.prefills.add(job, self.memory.computed(job)[0], first=True)

    def _admit(self, budget: int) -> None:
        """Let waiting prompts in, in order, while budget, places and memory last."""
        prefills = self.prefills
        places = self.model.max_sequences - self.decodes.count
        places -= prefills.count - len(prefills.waiting)
        while prefills.waiting and budget > 0 and places > 0:
            job = prefills.waiting[0]
            computed, blocks = self.memory.computed(job)
            if not self.memory.fits(job, blocks):
                return
            prefills.start()
            self.memory.admit(job, blocks)
            job.done = computed
            prefills.book(job, computed)
            job.sequence.known = max(job.sequence.known, computed)
            if blocks:
                self.tally.prefix_hits += computed
            budget -= self._take(job, budget)
            places -= 1

    def _take(self, job: Prefill, budget: int) -> int:
        """Put as much of a job into the step as `budget` allows; returns the tokens."""
        tokens = min(job.length - job.done, budget)
        self._chunks.append(_Chunk(job, tokens))
        return tokens

    def _finish_chunk(self, job: Prefill, tokens: int, end: StepEnd) -> None:
        start, sequence, tally = job.done, job.sequence, self.tally
        job.done += tokens
        tally.prefilled += tokens
        tally.recomputed += max(0, min(job.done, sequence.known) - start)
        sequence.known = max(sequence.known, job.done)
        if job.done < job.length:
            self.prefills.book(job, job.done)
            self._partial = job
            return
        self.withdraw(job)
        if job.warm_up:
            self.memory.warmed(job)
            end.warmed.append(sequence)
            return
        sequence.still_length = job.length + 1
        end.first.append(sequence)
        if sequence.ended:
            self.memory.keep(sequence, job.length)
            end.ended.append(sequence)
        else:
            self._decode(sequence)

    def _decode(self, sequence: LiveSequence) -> None:
        """Let a sequence whose KV is complete take part in the steps to come."""
        self.decodes.add(sequence, sequence.still_length)
        self.memory.hold_prompt(sequence)

    def _stop(self, job: Prefill) -> None:
        """Take an admitted job's memory, and its part in the step under way."""
        self.memory.free(job)
        if self._partial is job:
            self._partial = None
        for chunk in self._chunks:
            chunk.cancelled |= chunk.job is job
