"""The engine model: what one step of an inference engine costs.

One model prices a step for the planner, the router, the simulators and the HTTP engine simulator,
so that they can never disagree about what a plan is worth.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

MAX_HETEROGENEITY: Final = 1.5
"""Upper limit of H: the attention kernel never gets more than half slower by uneven lengths."""


class InvalidEngineModel(ValueError):
    """A coefficient is missing, unknown, not a number, or out of range."""


@dataclass(frozen=True, slots=True)
class EngineModel:
    """Step-time coefficients of one engine on one kind of GPU.

    A decode step over B sequences that hold S KV tokens takes `D = C0 + C1*B + C2*H*S` ms; the
    prefill of L tokens takes `w(L) = CP*L + CQ*L^2/2` ms of GPU time, in chunks that share steps
    with decoding. H = min(1.5, 1 + heterogeneity * cv), with cv the coefficient of variation of
    the lengths in the batch.
    """

    base_ms: float
    """C0, ms per step: weights, kernel launches, scheduling."""
    per_sequence_ms: float
    """C1, ms per step and running sequence."""
    per_kv_token_ms: float
    """C2, ms per step and KV token read by attention."""
    heterogeneity: float
    """Slope of the attention penalty over the coefficient of variation of lengths; 0 = none."""
    prefill_ms_per_token: float
    """CP, ms of prefill per prompt token."""
    prefill_ms_per_token_squared: float
    """CQ, ms per squared token: attention of the prompt to itself."""
    chunk_tokens: int
    """Most tokens that one step takes (chunked prefill budget)."""
    kv_capacity_tokens: int
    """KV cache size of one instance, in tokens."""
    max_sequences: int
    """Most sequences that run at once in one instance."""
    block_tokens: int = 16
    """KV block size, in tokens."""
    kv_bytes_per_token: int = 131072
    """KV cache bytes of one token, for transports that copy."""

    def __post_init__(self) -> None:
        for name in ("base_ms", "prefill_ms_per_token"):
            _require(name, getattr(self, name), above=0)
        for name in (
            "per_sequence_ms",
            "per_kv_token_ms",
            "heterogeneity",
            "prefill_ms_per_token_squared",
        ):
            _require(name, getattr(self, name), at_least=0)
        for name in ("chunk_tokens", "kv_capacity_tokens", "max_sequences", "block_tokens"):
            _require(name, getattr(self, name), at_least=1)
        _require("kv_bytes_per_token", self.kv_bytes_per_token, at_least=0)

    def decode_ms(self, sequences: float, kv_tokens: float, penalty: float = 1.0) -> float:
        """D: ms of one decode step over `sequences` that hold `kv_tokens`; `penalty` is H."""
        return (
            self.base_ms
            + self.per_sequence_ms * sequences
            + self.per_kv_token_ms * penalty * kv_tokens
        )

    def sequence_ms(self, length: float, penalty: float = 1.0) -> float:
        """d: ms that one more sequence of `length` tokens adds to each step of its batch."""
        return self.per_sequence_ms + self.per_kv_token_ms * penalty * length

    def prefill_ms(self, tokens: float, cached: float = 0.0) -> float:
        """w(tokens) - w(cached): ms to prefill `tokens` of which the first `cached` are held."""
        return self.prefill_ms_per_token * (tokens - cached) + (
            self.prefill_ms_per_token_squared * (tokens * tokens - cached * cached) / 2
        )

    def stretch(self, decode_ms: float) -> float:
        """phi: how much longer a prefill ms takes because decodes ride in its chunks."""
        return 1 + decode_ms / (self.chunk_tokens * self.prefill_ms_per_token)

    def penalty(self, sequences: float, kv_tokens: float, kv_tokens_squared: float) -> float:
        """H for a batch: `sequences`, the sum of their lengths and of their squared lengths."""
        if self.heterogeneity == 0 or sequences < 1 or kv_tokens <= 0:
            return 1.0
        mean = kv_tokens / sequences
        variance = max(0.0, kv_tokens_squared / sequences - mean * mean)
        return self.penalty_of_cv(math.sqrt(variance) / mean)

    def penalty_of_cv(self, cv: float) -> float:
        """H for lengths with coefficient of variation `cv`."""
        return min(MAX_HETEROGENEITY, 1 + self.heterogeneity * cv)

    def to_json(self) -> dict[str, float | int]:
        """The coefficients under their wire names (camelCase)."""
        return {wire: getattr(self, name) for wire, name in _WIRE_TO_FIELD.items()}

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> "EngineModel":
        """Read the wire form; unknown names are ignored.

        Raises InvalidEngineModel naming the field that is missing or wrong.
        """
        values: dict[str, float | int] = {}
        for wire, name in _WIRE_TO_FIELD.items():
            if wire not in data:
                if name in _OPTIONAL:
                    continue
                raise InvalidEngineModel(f"engine model: {wire} is missing")
            value = data[wire]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InvalidEngineModel(f"engine model: {wire} must be a number, not {value!r}")
            if not abs(value) <= _GREATEST:
                raise InvalidEngineModel(f"engine model: {wire} must be finite, not {value}")
            values[name] = int(value) if name in _INTEGERS else float(value)
        return cls(**values)  # type: ignore[arg-type]


def _require(
    name: str, value: float, *, above: float | None = None, at_least: float | None = None
) -> None:
    wire = _FIELD_TO_WIRE[name]
    if not math.isfinite(value):
        raise InvalidEngineModel(f"engine model: {wire} must be finite, not {value}")
    if above is not None and not value > above:
        raise InvalidEngineModel(f"engine model: {wire} must be above {above}, not {value}")
    if at_least is not None and not value >= at_least:
        raise InvalidEngineModel(f"engine model: {wire} must be at least {at_least}, not {value}")


_WIRE_TO_FIELD: Final = {
    "baseMs": "base_ms",
    "perSequenceMs": "per_sequence_ms",
    "perKvTokenMs": "per_kv_token_ms",
    "heterogeneity": "heterogeneity",
    "prefillMsPerToken": "prefill_ms_per_token",
    "prefillMsPerTokenSquared": "prefill_ms_per_token_squared",
    "chunkTokens": "chunk_tokens",
    "kvCapacityTokens": "kv_capacity_tokens",
    "maxSequences": "max_sequences",
    "blockTokens": "block_tokens",
    "kvBytesPerToken": "kv_bytes_per_token",
}
_GREATEST: Final = sys.float_info.max
_FIELD_TO_WIRE: Final = {name: wire for wire, name in _WIRE_TO_FIELD.items()}
_INTEGERS: Final = frozenset(f.name for f in fields(EngineModel) if f.type is int)
_OPTIONAL: Final = frozenset({"block_tokens", "kv_bytes_per_token"})
