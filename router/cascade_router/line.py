"""A line to an engine: one request out, one answer back, however the bytes get there."""

from typing import Protocol


class Unreachable(Exception):
    """The address gave no answer."""


class NoConnection(Unreachable):
    """No connection to the address could be made."""


class NobodyThere(NoConnection):
    """The system says that nobody listens, rather than that an answer took too long."""


class Sink(Protocol):
    """Whoever consumes an answer. After `end` or `lost` nothing more comes."""

    def head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers (names in lower case) are here."""

    def body(self, data: bytes) -> None:
        """A piece of the body, without any framing; never empty."""

    def leave_please(self, going: bool) -> None:
        """The instance asks for the sequence to be taken away; its answer goes on until then.
        `going`: because it leaves itself, not because its memory runs out."""

    def end(self) -> None:
        """The answer is complete."""

    def lost(self, reason: str) -> None:
        """The connection broke before the answer was complete."""


class Line(Protocol):
    """One request under way. Made with its sink; nothing happens before `send`."""

    @property
    def over(self) -> bool:
        """Whether the sink hears nothing more."""

    async def send(self) -> None:
        """Connect if need be and send. Raises Unreachable."""

    def abort(self) -> None:
        """Stop: the other side drops its work, and the sink hears nothing more."""

    def pause(self) -> None:
        """Take no more of the answer for now."""

    def resume(self) -> None:
        """Go on."""
