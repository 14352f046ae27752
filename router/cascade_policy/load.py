"""The load of an instance, as its router tells it to others."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

MAX_PREFILL_SHARE: Final = 0.9
"""Upper limit of sigma: beyond it `1 / (1 - sigma)` says more about noise than about load."""


class InvalidLoad(ValueError):
    """The text of another router is no load; the message names the field that is wrong."""


@dataclass(frozen=True, slots=True)
class InstanceLoad:
    """What one instance has to do. Sequences that wait in the engine count like running ones."""

    sequences: int
    """B."""
    kv_tokens: int
    """S, the sum of the lengths of the sequences."""
    kv_tokens_squared: int
    """Sum of the squared lengths, for the heterogeneity penalty H."""
    waiting_prefill_ms: float
    """W, GPU ms of prefill that are booked and not done."""
    prefill_share: float
    """sigma, the share of time that went into prefill lately: 0 to 0.9."""

    def to_wire(self) -> dict[str, float | int]:
        """The wire form: a small JSON object with one-letter names."""
        return {
            "b": self.sequences,
            "s": self.kv_tokens,
            "s2": self.kv_tokens_squared,
            "w": round(self.waiting_prefill_ms, 3),
            "p": round(self.prefill_share, 4),
        }

    @classmethod
    def from_wire(cls, data: Mapping[str, object]) -> "InstanceLoad":
        """Read the wire form; unknown names are ignored. Raises InvalidLoad."""
        return cls(
            sequences=_count(data, "b"),
            kv_tokens=_count(data, "s"),
            kv_tokens_squared=_count(data, "s2"),
            waiting_prefill_ms=_amount(data, "w"),
            prefill_share=min(MAX_PREFILL_SHARE, _amount(data, "p")),
        )

    def plus(self, length: int) -> "InstanceLoad":
        """The load with one more sequence of `length` tokens, its prompt already computed."""
        return InstanceLoad(
            self.sequences + 1,
            self.kv_tokens + length,
            self.kv_tokens_squared + length * length,
            self.waiting_prefill_ms,
            self.prefill_share,
        )

    def minus(self, length: int) -> "InstanceLoad":
        """The load without one of its sequences, `length` tokens long; never below zero."""
        return InstanceLoad(
            max(0, self.sequences - 1),
            max(0, self.kv_tokens - length),
            max(0, self.kv_tokens_squared - length * length),
            self.waiting_prefill_ms,
            self.prefill_share,
        )


IDLE: Final = InstanceLoad(0, 0, 0, 0.0, 0.0)


def _count(data: Mapping[str, object], name: str) -> int:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidLoad(f"load: {name} must be a whole number of at least 0, not {value!r}")
    return value


def _amount(data: Mapping[str, object], name: str) -> float:
    value = data.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidLoad(f"load: {name} must be a number, not {value!r}")
    if not (math.isfinite(value) and value >= 0):
        raise InvalidLoad(f"load: {name} must be finite and at least 0, not {value!r}")
    return float(value)
