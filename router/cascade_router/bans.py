"""Local bans: instances that this sidecar could not reach are left alone for a while.

Kubernetes says who is a member; a ban only covers the seconds until it has noticed a failure.
"""

from typing import Final

FIRST_BAN_SECONDS: Final = 1.0
LONGEST_BAN_SECONDS: Final = 30.0
FORGET_SECONDS: Final = 120.0
"""After so long without a failure an address starts again with the first ban."""


class Bans:
    """Addresses that failed. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[float, float]] = {}

    def failed(self, address: str, now: float) -> None:
        """A connection to `address` failed: each ban is twice as long as the one before.

        Failures during a ban do not lengthen it: they come from requests that were under way.
        """
        until, length = self._entries.get(address, (-float("inf"), 0.0))
        if now < until:
            return
        repeated = length > 0 and now - until < FORGET_SECONDS
        length = min(2 * length, LONGEST_BAN_SECONDS) if repeated else FIRST_BAN_SECONDS
        self._entries[address] = (now + length, length)

    def succeeded(self, address: str) -> None:
        """`address` answered: it is as good as new."""
        self._entries.pop(address, None)

    def banned(self, address: str, now: float) -> bool:
        """Whether to leave `address` alone. After the ban, the next request is the probe."""
        entry = self._entries.get(address)
        return entry is not None and now < entry[0]

    def until(self, address: str) -> float | None:
        """When the newest ban of `address` ends or has ended; None where there is none."""
        entry = self._entries.get(address)
        return None if entry is None else entry[0]

    def forget(self, now: float) -> None:
        """Drop what is long over, so that addresses of pods that are gone do not pile up."""
        self._entries = {
            address: entry
            for address, entry in self._entries.items()
            if now - entry[0] < FORGET_SECONDS
        }
