"""What an engine keeps of prompts it has computed, to be reused by prompts that start alike."""

from collections import OrderedDict
from collections.abc import Sequence

from cascade_simulator.workload import Request


class PrefixCache:
    """Full prompt blocks of one instance, by their number. Sizes in tokens.

    A block that running sequences hold is shared by them and stays. A block that nobody holds is
    kept as long as there is memory for it; the least recently used one goes first, and of a prompt
    its end before its start.
    """

    __slots__ = ("_block_tokens", "_evictable", "_holders", "saved_tokens")

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._holders: dict[int, int] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()
        self.saved_tokens = 0
        """KV that need not exist because several sequences hold the same block."""

    @property
    def kept_tokens(self) -> int:
        """Tokens in blocks that nobody holds."""
        return len(self._evictable) * self._block_tokens

    def full_blocks(self, request: Request, length: int | None = None) -> tuple[int, ...]:
        """The blocks that lie wholly in its first `length` tokens (None: in its prompt)."""
        tokens = request.prompt if length is None else length
        return request.blocks[: tokens // self._block_tokens]

    def match(self, blocks: Sequence[int]) -> int:
        """How many leading blocks of `blocks` are here."""
        holders, evictable = self._holders, self._evictable
        for position, block in enumerate(blocks):
            if block not in holders and block not in evictable:
                return position
        return len(blocks)

    def tokens(self, blocks: int) -> int:
        """Tokens in so many blocks."""
        return blocks * self._block_tokens

    def held_tokens(self, blocks: Sequence[int]) -> int:
        """Tokens of `blocks` that running sequences hold: one more holder takes no memory."""
        holders = self._holders
        return sum(1 for block in blocks if block in holders) * self._block_tokens

    def hold(self, blocks: Sequence[int]) -> None:
        """Note that one more running sequence holds `blocks`."""
        for block in blocks:
            held = self._holders.get(block, 0)
            if held:
                self.saved_tokens += self._block_tokens
            else:
                self._evictable.pop(block, None)
            self._holders[block] = held + 1

    def release(self, blocks: Sequence[int]) -> None:
        """Note that a sequence that held `blocks` does so no more; their content is kept."""
        for block in reversed(blocks):
            held = self._holders[block] - 1
            if held:
                self._holders[block] = held
                self.saved_tokens -= self._block_tokens
            else:
                del self._holders[block]
                self._evictable[block] = None

    def keep(self, blocks: Sequence[int]) -> None:
        """Put blocks that a sequence leaves behind into the cache."""
        self.hold(blocks)
        self.release(blocks)

    def shrink(self, room_tokens: int) -> None:
        """Forget blocks that nobody holds until the rest fits into `room_tokens`."""
        while self._evictable and self.kept_tokens > room_tokens:
            self._evictable.popitem(last=False)

    def clear(self) -> None:
        """Forget everything: the instance has died."""
        self._holders.clear()
        self._evictable.clear()
        self.saved_tokens = 0
