"""What the sequences in an engine share of their prompts: memory holds it once."""

from collections.abc import Sequence

from cascade_policy.prefix_index import Block


class _Held:
    """A block in memory, and how many sequences hold it."""

    __slots__ = ("holders", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.holders = 0


class LivePrefixes:
    """Blocks that the sequences in an engine hold. Lengths are estimates where prompts are text:
    the first holder's estimate counts for all of a block."""

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
                held = self._blocks[block.hash] = _Held(block.tokens - before)
            else:
                self.saved_tokens += held.tokens
            held.holders += 1
            before = block.tokens

    def release(self, prefix: Sequence[Block]) -> None:
        """It left; `prefix` is what it was held with."""
        for block in prefix:
            held = self._blocks[block.hash]
            held.holders -= 1
            if held.holders:
                self.saved_tokens -= held.tokens
            else:
                del self._blocks[block.hash]

    def match(self, prefix: Sequence[Block]) -> int:
        """Tokens of the longest beginning that is held."""
        matched = 0
        for block in prefix:
            if block.hash not in self._blocks:
                break
            matched = block.tokens
        return matched
