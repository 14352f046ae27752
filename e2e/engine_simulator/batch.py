"""Continuous batching with chunked prefill: who takes part in a step and what it costs.

Pure: no clock. The caller starts a step, lets `Step.seconds` pass, and finishes it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

from cascade_policy.engine_model import EngineModel
from e2e.engine_simulator.block_pool import BlockPool
from e2e.engine_simulator.next_token import advance, next_token, next_word, state_of
from e2e.engine_simulator.sampler import Sampler, Wishes
from e2e.engine_simulator.vocabulary import END_OF_TEXT

PLAIN: Final = Wishes()
"""Nothing but the model decides."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What ends an answer, and what chooses its tokens. Counts in tokens."""

    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stop_ids: frozenset[int] = frozenset()
    wishes: Wishes = PLAIN


@dataclass(slots=True, eq=False)
class LiveSequence:
    """A request inside the engine. Lengths in tokens."""

    prompt_length: int
    sampling: Sampling
    state: int
    """Of the next-token function, after all `length` tokens."""
    last: int
    """The newest id."""
    block_keys: list[int]
    """Hash of everything up to the end of each full block."""
    salt: int
    sampler: Sampler | None = None
    """None where nothing but the model decides."""
    length: int = 0
    computed: int = 0
    """Tokens whose KV is there."""
    prefill_until: int = 0
    """Length at which this sequence turns from prefilling to decoding."""
    shared: list[int] = field(default_factory=list)
    private: int = 0
    generated: int = 0
    cached_tokens: int = 0
    """Prompt tokens found in the prefix cache when it first ran."""
    preemptions: int = 0
    finish_reason: str | None = None
    stop_reason: int | None = None

    @property
    def blocks(self) -> int:
        """KV blocks that this sequence holds."""
        return len(self.shared) + self.private


@dataclass(frozen=True, slots=True)
class Step:
    """One pass of the engine. Who decodes gets a token when it ends."""

    seconds: float
    decoding: list[LiveSequence]
    prefilling: list[tuple[LiveSequence, int]]
    """(sequence, tokens of its prompt computed in this step); with the last one comes a token."""

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model in this step."""
        return len(self.decoding) + sum(chunk for _, chunk in self.prefilling)


def make_sequence(
    prompt: Sequence[int], sampling: Sampling, block_tokens: int, cache_salt: str = ""
) -> LiveSequence:
    """A sequence ready to be submitted. `prompt` must not be empty."""
    salt = crc32(cache_salt.encode()) if cache_salt else 0
    keys: list[int] = []
    state = 0
    full = len(prompt) - len(prompt) % block_tokens
    for start in range(0, full, block_tokens):
        state = state_of(prompt[start : start + block_tokens], state)
        keys.append(state ^ salt)
    return LiveSequence(
        prompt_length=len(prompt),
        sampling=sampling,
        state=state_of(prompt[full:], state),
        last=prompt[-1],
        block_keys=keys,
        salt=salt,
        sampler=None if sampling.wishes == PLAIN else Sampler(sampling.wishes, prompt),
        length=len(prompt),
    )


class Batch:
    """The sequences of one engine: running, waiting, and the KV blocks they hold."""

    def __init__(self, model: EngineModel, *, prefix_caching: bool = True) -> None:
        self.model = model
        self.pool = BlockPool(
            model.kv_capacity_tokens // model.block_tokens, caching=prefix_caching
        )
        self.running: list[LiveSequence] = []
        self.waiting: deque[LiveSequence] = deque()
        self.preemptions = 0
        self.cache_queries = 0
        """Prompt tokens looked up in the prefix cache."""
        self.cache_hits = 0

    def submit(self, sequence: LiveSequence) -> None:
        """Queue a sequence; it joins the batch at the start of a later step."""
        self.waiting.append(sequence)

    def abort(self, sequence: LiveSequence) -> None:
        """Take a sequence out at once and free its blocks; a finished one is left alone."""
        if sequence.finish_reason is None:
            self._end(sequence, "abort")

    def start_step(self) -> Step | None:
        """Decide who takes part in the next step; None when there is nothing to do."""
        budget = self.model.chunk_tokens
        decoding: list[LiveSequence] = []
        prefilling: list[tuple[LiveSequence, int]] = []
        preempted = self.preemptions
        for sequence in tuple(self.running):
            if budget == 0:
                break
            take = min(sequence.length - sequence.computed, budget)
            if not self._make_room(sequence, take):
                continue
            budget -= take
            if sequence.computed >= sequence.prefill_until:
                decoding.append(sequence)
            else:
                prefilling.append((sequence, take))
        if self.preemptions == preempted:
            self._admit(budget, prefilling)
        if not decoding and not prefilling:
            return None
        return Step(self._step_ms(decoding, prefilling) / 1000, decoding, prefilling)

    def finish_step(self, step: Step) -> list[LiveSequence]:
        """Give each sequence of the step its token (`last`); those with a finish_reason are out.

        Sequences that were aborted while the step ran are passed over.
        """
        produced = []
        for sequence in step.decoding:
            if sequence.finish_reason is None:
                self._computed(sequence, 1)
                self._sample(sequence)
                produced.append(sequence)
        for sequence, chunk in step.prefilling:
            if sequence.finish_reason is None:
                self._computed(sequence, chunk)
                if sequence.computed == sequence.length:
                    self._sample(sequence)
                    produced.append(sequence)
        return produced

    def _step_ms(
        self,
        decoding: Iterable[LiveSequence],
        prefilling: Iterable[tuple[LiveSequence, int]],
    ) -> float:
        model = self.model
        lengths = [sequence.length for sequence in decoding]
        tokens = sum(lengths)
        penalty = model.penalty(len(lengths), tokens, sum(length * length for length in lengths))
        chunks = sum(
            model.prefill_ms(sequence.computed + take, sequence.computed)
            for sequence, take in prefilling
        )
        return model.decode_ms(len(lengths), tokens, penalty) + chunks

    def _make_room(self, sequence: LiveSequence, take: int) -> bool:
        """Blocks for `take` more tokens, preempting the newest; False if it went itself."""
        if not sequence.blocks:
            return False
        missing = self._blocks_for(sequence.computed + take) - sequence.blocks
        if missing <= 0:
            return True
        while not self.pool.allocate(missing):
            victim = self.running[-1]
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.private += missing
        return True

    def _admit(self, budget: int, prefilling: list[tuple[LiveSequence, int]]) -> None:
        """Let waiting sequences in, in order, while budget, places and blocks last."""
        while self.waiting and budget and len(self.running) < self.model.max_sequences:
            sequence = self.waiting[0]
            # The last token is always computed: its output is the next token.
            found = self.pool.match(
                sequence.block_keys, (sequence.length - 1) // self.model.block_tokens
            )
            cached = found * self.model.block_tokens
            take = min(sequence.length - cached, budget)
            keys = sequence.block_keys[:found]
            private = self._blocks_for(cached + take) - found
            if self.pool.needed(keys, private) > self.pool.free:
                return
            self.waiting.popleft()
            self.pool.hold(keys)
            self.pool.allocate(private)
            sequence.shared, sequence.private = keys, private
            sequence.computed, sequence.prefill_until = cached, sequence.length
            self._count_lookup(sequence, cached)
            self.running.append(sequence)
            prefilling.append((sequence, take))
            budget -= take

    def _count_lookup(self, sequence: LiveSequence, cached: int) -> None:
        if sequence.preemptions:
            return
        sequence.cached_tokens = cached
        if self.pool.caching:
            self.cache_queries += sequence.prompt_length
            self.cache_hits += cached

    def _preempt(self, sequence: LiveSequence) -> None:
        """Back to the head of the queue; all of its KV is computed again later."""
        self.running.remove(sequence)
        self._free(sequence)
        sequence.computed = 0
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _computed(self, sequence: LiveSequence, tokens: int) -> None:
        """Count `tokens` more with KV and share the blocks they fill."""
        size = self.model.block_tokens
        before, sequence.computed = sequence.computed, sequence.computed + tokens
        if before // size == sequence.computed // size:
            return
        if len(sequence.block_keys) < sequence.computed // size:
            sequence.block_keys.append(sequence.state ^ sequence.salt)
        for position in range(before // size, sequence.computed // size):
            key = sequence.block_keys[position]
            if self.pool.share(key):
                sequence.private -= 1
                sequence.shared.append(key)

    def _sample(self, sequence: LiveSequence) -> None:
        """The next token, and whether it is the last."""
        sampling = sequence.sampling
        if sequence.sampler is None:
            number = next_token(sequence.state, sequence.last)
        else:
            number = sequence.sampler.choose(sequence.state, sequence.last, sequence.generated)
        if sequence.generated < sampling.min_tokens and (
            number == END_OF_TEXT or number in sampling.stop_ids
        ):
            number = next_word(sequence.state)
        sequence.last = number
        sequence.state = advance(sequence.state, number)
        sequence.length += 1
        sequence.generated += 1
        if sequence.generated < sampling.min_tokens:
            return
        if number == END_OF_TEXT and not sampling.ignore_eos:
            self._end(sequence, "stop")
        elif number in sampling.stop_ids:
            sequence.stop_reason = number
            self._end(sequence, "stop")
        elif sequence.generated >= sampling.max_tokens:
            self._end(sequence, "length")

    def _end(self, sequence: LiveSequence, reason: str) -> None:
        sequence.finish_reason = reason
        if sequence.blocks:
            self.running.remove(sequence)
            self._free(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def _free(self, sequence: LiveSequence) -> None:
        self.pool.release(sequence.shared, sequence.private)
        sequence.shared, sequence.private = [], 0

    def _blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.model.block_tokens)
