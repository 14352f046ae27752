"""What the sequences in an engine share of their prompts: memory holds it once."""

from collections.abc import Sequence

from cascade_policy.prefix_index import Block


class _Held:
    """A block in memory: how many sequences hold it, and its tokens as each of them counts it."""

    __slots__ = ("counted", "holders")

    def __init__(self) -> None:
        self.holders = 0
        self.counted = 0

    @property
    def saved(self) -> int:
        """Tokens that memory does not hold a second time: all but the mean of what is counted."""
        return self.counted - -(-self.counted // self.holders)

    def change(self, holders: int, tokens: int) -> int:
        """Let holders come or go, with what they count; by how much that changes what is saved."""
        before = self.saved if self.holders else 0
        self.holders += holders
        self.counted += tokens
        return (self.saved if self.holders else 0) - before


class LivePrefixes:
    """Blocks that the sequences in an engine hold. Lengths are estimates where prompts are text, so
    several holders may count the same block differently."""

    __slots__ = ("_blocks", "saved_tokens")

    def __init__(self) -> None:
        self._blocks: dict[int, _Held] = {}
        self.saved_tokens = 0
        """Tokens that memory does not hold a second time."""

    def hold(self, prefix: Sequence[Block]) -> None:
        """A sequence with this prompt came."""
        before = 0
        for block in prefix:
            held = self._blocks.get(block.hash)
            if held is None:
                held = self._blocks[block.hash] = _Held()
            self.saved_tokens += held.change(1, block.tokens - before)
            before = block.tokens

    def release(self, prefix: Sequence[Block]) -> None:
        """It left; `prefix` is what it was held with."""
        before = 0
        for block in prefix:
            held = self._blocks[block.hash]
            self.saved_tokens += held.change(-1, before - block.tokens)
            if not held.holders:
                del self._blocks[block.hash]
            before = block.tokens

    def match(self, prefix: Sequence[Block]) -> int:
        """Tokens of the longest beginning that is held."""
        matched = 0
        for block in prefix:
            if block.hash not in self._blocks:
                break
            matched = block.tokens
        return matched
