"""The KV cache of one instance: who holds how much of it, and what is kept to be used again."""

from cascade_policy.engine_model import EngineModel
from cascade_simulator.decode_set import DecodeSet
from cascade_simulator.live_sequence import LiveSequence, Prefill
from cascade_simulator.prefix_cache import PrefixCache
from cascade_simulator.workload import Request


class KvMemory:
    """Counts tokens, not blocks. A decoding sequence holds its length, a prompt that is being
    computed all of its tokens from the start, a copy on its way what it had when it set out.

    What nobody holds is kept while there is room: blocks of the prefix cache, if there is one, and
    the KV of warm-ups, to which nobody else's prompt leads.
    """

    __slots__ = ("_admitted", "_cache", "_coming", "_decodes", "_model", "_warm")

    def __init__(self, model: EngineModel, decodes: DecodeSet, cache: PrefixCache | None) -> None:
        self._model = model
        self._decodes = decodes
        self._cache = cache
        self._admitted = 0
        self._coming: dict[LiveSequence, int] = {}
        self._warm: dict[LiveSequence, int] = {}

    @property
    def tokens(self) -> int:
        """Tokens in use or reserved."""
        used = self._decodes.tokens + self._admitted
        if self._coming:
            used += sum(self._coming.values())
        return used if self._cache is None else used - self._cache.saved_tokens

    def overflows(self) -> bool:
        """Whether more is in use than there is."""
        return self.tokens > self._model.kv_capacity_tokens

    def cached(self, request: Request) -> int:
        """Tokens at the start of a new prompt that the prefix cache holds."""
        cache = self._cache
        if cache is None or not request.blocks:
            return 0
        cache.shrink(self._model.kv_capacity_tokens - self.tokens)
        blocks = cache.match(cache.full_blocks(request))
        return self._reusable(cache.tokens(blocks), request.prompt)

    def computed(self, job: Prefill) -> tuple[int, int]:
        """Tokens at the start of a job that need not be computed, and cached blocks that match."""
        sequence = job.sequence
        warm = 0 if job.warm_up else self._reusable(self._warm.get(sequence, 0), job.length)
        cache = self._cache
        if cache is None or not sequence.request.blocks:
            return warm, 0
        cache.shrink(self._model.kv_capacity_tokens - self.tokens)
        blocks = cache.match(cache.full_blocks(sequence.request, job.length))
        return max(warm, self._reusable(cache.tokens(blocks), job.length)), blocks

    def fits(self, job: Prefill, blocks: int) -> bool:
        """Whether all tokens of a job, whose first `blocks` are cached, fit beside what is held."""
        need = job.length
        if self._cache is not None:
            need -= self._cache.held_tokens(job.sequence.request.blocks[:blocks])
        return self.tokens + need <= self._model.kv_capacity_tokens

    def admit(self, job: Prefill, blocks: int) -> None:
        """Give a job its memory; its first `blocks` are cached."""
        self._admitted += job.length
        job.admitted, job.shared_blocks = True, blocks
        if not job.warm_up:
            self._warm.pop(job.sequence, None)
        if self._cache is not None:
            self._cache.hold(job.sequence.request.blocks[:blocks])
            self._cache.shrink(self._model.kv_capacity_tokens - self.tokens)
        while self._warm and self._with_warm() > self._model.kv_capacity_tokens:
            del self._warm[next(iter(self._warm))]

    def free(self, job: Prefill) -> None:
        """Take back the memory of an admitted job."""
        self._admitted -= job.length
        if self._cache is not None:
            self._cache.release(job.sequence.request.blocks[: job.shared_blocks])
        job.shared_blocks = 0

    def warmed(self, job: Prefill) -> None:
        """Keep what a warm-up has computed."""
        self.keep(job.sequence, job.length)
        self._warm[job.sequence] = job.length

    def hold_prompt(self, sequence: LiveSequence) -> None:
        """Share the prompt of a sequence that decodes from now on."""
        if self._cache is not None:
            self._cache.hold(self._cache.full_blocks(sequence.request))

    def leave(self, sequence: LiveSequence) -> None:
        """Keep what a decoding sequence leaves behind."""
        if self._cache is not None:
            self._cache.release(self._cache.full_blocks(sequence.request))
            self.keep(sequence, sequence.still_length - 1)

    def keep(self, sequence: LiveSequence, length: int) -> None:
        """Put the first `length` tokens of a sequence into the prefix cache."""
        if self._cache is not None:
            self._cache.keep(self._cache.full_blocks(sequence.request, length))

    def reserve(self, sequence: LiveSequence, tokens: int) -> None:
        """Keep `tokens` free for a sequence that is on its way."""
        self._coming[sequence] = tokens

    def unreserve(self, sequence: LiveSequence) -> None:
        """The sequence is there, or does not come."""
        self._coming.pop(sequence, None)

    def forget_warm(self, sequence: LiveSequence) -> None:
        """Nobody will come for this warm-up."""
        self._warm.pop(sequence, None)

    def clear(self) -> None:
        """Lose everything."""
        self._admitted = 0
        self._coming.clear()
        self._warm.clear()
        if self._cache is not None:
            self._cache.clear()

    def _with_warm(self) -> int:
        return self.tokens + sum(self._warm.values())

    def _reusable(self, tokens: int, length: int) -> int:
        """Of `tokens` held, those in full blocks before the last token, which is always computed:
        its output is the next token."""
        size = self._model.block_tokens
        return min(tokens, length - 1) // size * size
