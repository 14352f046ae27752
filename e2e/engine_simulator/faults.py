"""Faults on purpose: what goes wrong, when, and how often."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


class InvalidFaults(ValueError):
    """A fault is unknown or its value is out of range; the message says which."""


@dataclass(slots=True)
class Faults:
    """The faults in force. Counts run down as they strike; 0 or None means no such fault."""

    status: int | None = None
    """Answer generation requests with this HTTP status (429, 500 or 503)."""
    status_times: int | None = None
    """How many requests `status` still strikes; None = all."""
    retry_after_seconds: int = 1
    """The Retry-After header of 429 and 503."""
    drop_times: int = 0
    """Reset the connection of the next so many generation requests before any answer."""
    reset_after_tokens: int | None = None
    """Reset the connection of a stream after this many of its tokens; 0: after its head."""
    reset_times: int | None = None
    """How many streams `reset_after_tokens` still strikes; None = all."""
    crash_after_tokens: int | None = None
    """The process exits after generating this many tokens from now on."""
    hang: bool = False
    """No step ever ends; the HTTP server goes on answering."""

    @classmethod
    def from_json(cls, data: object) -> "Faults":
        """Read `{"resetAfterTokens": 10, ...}`. Raises InvalidFaults."""
        if not isinstance(data, Mapping):
            raise InvalidFaults("faults must be a JSON object")
        names = {_wire(field.name): field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for wire, value in data.items():
            if wire not in names:
                known = ", ".join(sorted(names))
                raise InvalidFaults(f"fault {wire!r} is not known; use {known}")
            values[names[wire]] = _checked(wire, value)
        return cls(**values)

    def to_json(self) -> dict[str, object]:
        """The faults in force under their wire names."""
        return {_wire(name): value for name, value in asdict(self).items()}

    def strike_status(self) -> int | None:
        """The status that this generation request must get, if any."""
        if self.status is None or self.status_times == 0:
            return None
        if self.status_times is not None:
            self.status_times -= 1
        return self.status

    def strike_drop(self) -> bool:
        """Whether this generation request's connection must be reset before any answer."""
        if self.drop_times == 0:
            return False
        self.drop_times -= 1
        return True

    def strike_reset(self, tokens: int) -> bool:
        """Whether a stream that has sent `tokens` tokens must be reset now."""
        if self.reset_after_tokens != tokens or self.reset_times == 0:
            return False
        if self.reset_times is not None:
            self.reset_times -= 1
        return True

    def strike_crash(self, tokens: int) -> bool:
        """Whether the process must exit, now that `tokens` more tokens were generated."""
        if self.crash_after_tokens is None:
            return False
        self.crash_after_tokens -= tokens
        return self.crash_after_tokens <= 0


def _wire(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _checked(wire: str, value: object) -> object:
    if value is None and wire != "dropTimes":
        return None
    if wire == "hang":
        if isinstance(value, bool):
            return value
        raise InvalidFaults(f"fault hang must be true or false, not {value!r}")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidFaults(f"fault {wire} must be a whole number from 0, not {value!r}")
    if wire == "status" and value not in (429, 500, 503):
        raise InvalidFaults(f"fault status must be 429, 500 or 503, not {value}")
    return value
