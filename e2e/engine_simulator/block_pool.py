"""KV memory in blocks, with a prefix cache: who holds what, what may be evicted, what is free."""

from collections import OrderedDict
from collections.abc import Sequence


class BlockPool:
    """`capacity` blocks of one size, counted rather than stored.

    A block is *private* (held by one sequence, not full or not shareable) or *shared*: full, known
    by the hash of every token up to its end, held by any number of sequences. A shared block that
    nobody holds stays as evictable cache, the least recently used one goes first, and counts as
    free. With `caching` off nothing is shared.
    """

    def __init__(self, capacity: int, *, caching: bool = True) -> None:
        self.capacity = capacity
        self.caching = caching
        self._private = 0
        self._holders: dict[int, int] = {}
        self._evictable: OrderedDict[int, None] = OrderedDict()

    @property
    def used(self) -> int:
        """Blocks held by sequences."""
        return self._private + len(self._holders)

    @property
    def cached(self) -> int:
        """Blocks that nobody holds, kept for their content."""
        return len(self._evictable)

    @property
    def free(self) -> int:
        """Blocks that can be had, evictable ones included."""
        return self.capacity - self.used

    def match(self, keys: Sequence[int], limit: int) -> int:
        """How many leading blocks of `keys`, at most `limit`, have their content here."""
        if not self.caching:
            return 0
        for position in range(min(limit, len(keys))):
            key = keys[position]
            if key not in self._holders and key not in self._evictable:
                return position
        return min(limit, len(keys))

    def needed(self, keys: Sequence[int], private: int) -> int:
        """Free blocks taken by holding `keys`, which must match, and `private` new ones."""
        return private + sum(1 for key in keys if key not in self._holders)

    def hold(self, keys: Sequence[int]) -> None:
        """Hold the shared blocks `keys`, which must match."""
        for key in keys:
            held = self._holders.get(key, 0)
            if not held:
                del self._evictable[key]
            self._holders[key] = held + 1

    def allocate(self, count: int) -> bool:
        """Take `count` private blocks, evicting what must go; False when there are not enough."""
        if count > self.free:
            return False
        self._private += count
        while self.used + len(self._evictable) > self.capacity:
            self._evictable.popitem(last=False)
        return True

    def share(self, key: int) -> bool:
        """Turn a private block, now full, into the shared block `key`.

        False, and the block stays private, when caching is off or that content is held already.
        """
        if not self.caching or key in self._holders:
            return False
        self._evictable.pop(key, None)
        self._holders[key] = 1
        self._private -= 1
        return True

    def release(self, keys: Sequence[int], private: int) -> None:
        """Let go of shared `keys` and `private` blocks; the end of a prefix is evicted first."""
        self._private -= private
        for key in reversed(keys):
            holders = self._holders[key] - 1
            if holders:
                self._holders[key] = holders
            else:
                del self._holders[key]
                self._evictable[key] = None
