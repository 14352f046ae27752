"""What an instance answers when it is asked about a sequence: its load, and what it has for it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from cascade_policy.admission import Room, admit
from cascade_policy.load import IDLE, InstanceLoad, InvalidLoad

_UNKNOWN: Final = 1 << 60
"""Tokens of memory of an instance that does not tell how much it has."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The state of one instance, seen from one sequence."""

    load: InstanceLoad = IDLE
    cached: int = 0
    """Tokens at the start of the sequence that its prefix cache should hold."""
    shared: int = 0
    """Tokens at its start that running sequences hold: they take no further memory."""
    free_tokens: int | None = None
    """KV memory for further sequences, less what is kept for others, in tokens; None where it is
    not known."""
    capacity_tokens: int | None = None
    """KV memory of the empty engine."""
    use: float = 0.0
    """Part of the KV cache that is in use, 0 to 1."""
    caching: bool = True
    """Whether the engine has a prefix cache."""
    reserved: bool = False
    """Whether a reservation that was asked for is granted."""

    def unasked(self) -> "Offer":
        """What of it holds for any sequence."""
        return replace(self, cached=0, shared=0, reserved=False)

    def with_sequence(self, length: int, prefill_ms: float, memory: int) -> "Offer":
        """The state after one more sequence of `length` tokens was sent there; it takes `memory`
        tokens."""
        load = self.load.plus(length)
        waiting = self.load.waiting_prefill_ms + prefill_ms
        free = None if self.free_tokens is None else self.free_tokens - memory
        return replace(self, load=replace(load, waiting_prefill_ms=waiting), free_tokens=free)

    def to_wire(self) -> dict[str, float | int | None]:
        """The wire form: the load's, and more one-letter names."""
        return {
            **self.load.to_wire(),
            "c": self.cached,
            "h": self.shared,
            "f": self.free_tokens,
            "n": self.capacity_tokens,
            "u": round(self.use, 4),
            "x": int(self.caching),
            "r": int(self.reserved),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, object]) -> "Offer":
        """Read the wire form; unknown names are ignored. Raises InvalidLoad."""
        return cls(
            load=InstanceLoad.from_wire(data),
            cached=_count(data, "c") or 0,
            shared=_count(data, "h") or 0,
            free_tokens=_count(data, "f", negative=True),
            capacity_tokens=_count(data, "n"),
            use=_share(data, "u"),
            caching=data.get("x", 1) == 1,
            reserved=data.get("r", 0) == 1,
        )


def has_memory(offer: Offer, length: int, growth: int, max_sequences: int) -> bool:
    """Whether a sequence of `length` tokens that may grow by `growth` can start on an instance, by
    its own account of its memory. One that would not fit even into the empty engine may start: no
    waiting would help it, and the engine itself says what it makes of it."""
    capacity = _UNKNOWN if offer.capacity_tokens is None else offer.capacity_tokens
    free = capacity if offer.free_tokens is None else offer.free_tokens
    need = length - min(length, offer.shared) + growth
    space = Room(
        capacity=capacity,
        booked=capacity - free,
        sequences=offer.load.sequences,
        max_sequences=max_sequences,
        margin=0,
    )
    return need > capacity or admit(need, space).admitted


def _count(data: Mapping[str, object], name: str, *, negative: bool = False) -> int | None:
    value = data.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or (value < 0 and not negative):
        raise InvalidLoad(f"offer: {name} must be a whole number, not {value!r}")
    return value


def _share(data: Mapping[str, object], name: str) -> float:
    value = data.get(name, 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidLoad(f"offer: {name} must be from 0 to 1, not {value!r}")
    return float(value)
