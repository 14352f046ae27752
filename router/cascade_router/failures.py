"""The failures of one request: how many it may have, and whose fault they are."""

from cascade_router import limits
from cascade_router.bans import Bans


class Failures:
    """Legs that broke or were answered with a fault, since the request last got ahead."""

    def __init__(self, bans: Bans) -> None:
        self._bans = bans
        self._count = 0
        self._tokens = 0
        """Of the answer at the last one."""
        self._accused: set[str] = set()
        """Addresses whose engine failed on the request, as long as none has done better."""

    def __str__(self) -> str:
        return f"{self._count} instances failed"

    @property
    def too_many(self) -> bool:
        """Whether the request is given up."""
        return self._count > limits.RESCUES

    def add(self, tokens: int) -> None:
        """One more, when the answer has so many tokens. With enough new ones since the last, the
        request has proved that it can go on."""
        if tokens - self._tokens >= limits.RESCUE_RENEWED_TOKENS:
            self._count = 0
        self._count += 1
        self._tokens = tokens

    def accuse(self, address: str) -> None:
        """The engine there failed on the request; that may be the request's fault."""
        self._accused.add(address)

    def served_by(self, address: str, now: float) -> None:
        """An instance serves the request, so it was not the request that others failed on."""
        self._bans.succeeded(address)
        for other in self._accused - {address}:
            self._bans.failed(other, now)
        self._accused.clear()
