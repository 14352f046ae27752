"""What a router believes its engine's prefix cache holds.

A prompt is a chain of blocks, each with a hash over itself and all before it; equal hashes mean
equal beginnings. The index remembers the hashes of what was sent to the engine, forgets the least
recently used ones as the engine would, and is put right by what the engine reports.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

MAX_QUESTION_BLOCKS: Final = 32
"""Blocks that a question to another router names: enough to place a prefix within 3 % of any
prompt, few enough for one packet."""
HASH_BYTES: Final = 8


class Block(NamedTuple):
    """The end of a prefix: the hash of everything up to here, and its length in tokens."""

    hash: int
    tokens: int


def chain(seed: bytes, parts: Iterable[tuple[bytes, int]]) -> tuple[Block, ...]:
    """The blocks of a prompt from its parts, (content, tokens) each.

    `seed` names what separates caches: model, adapter and cache salt.
    """
    digest = hashlib.blake2b(seed, digest_size=HASH_BYTES).digest()
    blocks: list[Block] = []
    tokens = 0
    for content, count in parts:
        digest = hashlib.blake2b(content, key=digest, digest_size=HASH_BYTES).digest()
        tokens += count
        blocks.append(Block(int.from_bytes(digest), tokens))
    return tuple(blocks)


def thin(blocks: Sequence[Block], most: int = MAX_QUESTION_BLOCKS) -> tuple[Block, ...]:
    """At most `most` of the blocks, evenly spread, the last one among them."""
    if len(blocks) <= most:
        return tuple(blocks)
    return tuple(blocks[(i + 1) * len(blocks) // most - 1] for i in range(most))


class Belief(NamedTuple):
    """That the engine holds a prefix of this length, because it was used at this time."""

    tokens: int
    used: int


class PrefixIndex:
    """Blocks that an engine of `capacity_tokens` should hold, most recently used last.

    Time is counted in prompts: what was used together is as old as each other.
    """

    __slots__ = ("_blocks", "_capacity", "_prompts", "_tokens")

    def __init__(self, capacity_tokens: int) -> None:
        self._capacity = capacity_tokens
        # hash -> (tokens of this block alone, when it was used last)
        self._blocks: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._tokens = 0
        self._prompts = 0

    def __len__(self) -> int:
        """Blocks that are remembered."""
        return len(self._blocks)

    @property
    def tokens(self) -> int:
        """Tokens of all blocks that are remembered."""
        return self._tokens

    def match(self, blocks: Sequence[Block]) -> int:
        """Tokens of the longest known beginning; `blocks` may be thinned."""
        held = 0
        for block in blocks:
            if block.hash not in self._blocks:
                break
            held = block.tokens
        return held

    def beliefs(self, blocks: Sequence[Block]) -> tuple[Belief, ...]:
        """What of a prompt the engine should hold, before it is added."""
        found: list[Belief] = []
        for block in blocks:
            known = self._blocks.get(block.hash)
            if known is None:
                break
            found.append(Belief(block.tokens, known[1]))
        return tuple(found)

    def add(self, blocks: Sequence[Block]) -> None:
        """A prompt was sent to the engine: all its blocks, not thinned ones."""
        self._prompts += 1
        before = 0
        for block in blocks:
            self._remember(block.hash, block.tokens - before)
            before = block.tokens
        # The end of a prompt is of no use without its beginning: it is the first to be forgotten.
        for block in reversed(blocks):
            self._blocks.move_to_end(block.hash)
        self._shrink()

    def correct(self, beliefs: Sequence[Belief], cached_tokens: int, slack_tokens: float) -> None:
        """The engine held only the first `cached_tokens` of a prompt of which `beliefs` were had.

        It evicts what was used least recently, so whatever was used no later than what it no
        longer holds is gone as well. Differences up to `slack_tokens` are rounding: to the
        engine's blocks, and of lengths that are estimates.
        """
        gone = [one.used for one in beliefs if one.tokens > cached_tokens + slack_tokens]
        if not gone:
            return
        newest = max(gone)
        while self._blocks and next(iter(self._blocks.values()))[1] <= newest:
            self._forget_oldest()

    def resize(self, capacity_tokens: int) -> None:
        """The engine turns out to hold more or fewer tokens."""
        self._capacity = capacity_tokens
        self._shrink()

    def clear(self) -> None:
        """The engine restarted, or its cache was reset."""
        self._blocks.clear()
        self._tokens = 0

    def _remember(self, key: int, tokens: int) -> None:
        known = self._blocks.get(key)
        if known is None:
            self._tokens += tokens
        self._blocks[key] = (tokens if known is None else known[0], self._prompts)

    def _shrink(self) -> None:
        while self._tokens > self._capacity:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, (tokens, _) = self._blocks.popitem(last=False)
        self._tokens -= tokens
