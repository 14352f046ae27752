"""Whether the target of a hand-over should compute the sequence before it comes."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cascade_policy.offer import Offer
from cascade_policy.stage_map import WARM, Handoff

LEAST_TOKENS: Final = 256
"""Tokens to compute below which a warm-up saves less than its request costs."""
MOST_USE: Final = 0.85
"""Use of the target's KV cache above which what a warm-up computes may be evicted again."""
LEAST_REMAINING: Final = 32.0
"""Output tokens below which the sequence ends about when the warm-up does."""
AGAIN_TOKENS: Final = 256
"""Tokens made during a warm-up beyond which the target is warmed once more."""
MOST_ROUNDS: Final = 2


class WarmReason(StrEnum):
    """Why a target is warmed, or not."""

    WORTH_IT = "worth-it"
    TRANSPORT = "transport"
    """The service hands over in another way."""
    NO_CACHE = "no-cache"
    """The target's engine keeps no prefixes."""
    FULL = "full"
    """Its memory is so full that they would not last."""
    SHORT = "short"
    """There is little to compute."""
    NEARLY_DONE = "nearly-done"


@dataclass(frozen=True, slots=True)
class Warmth:
    """Whether to warm the target first, and why."""

    warm: bool
    reason: WarmReason


def warmth(handoff: Handoff, offer: Offer, length: int, remaining: float) -> Warmth:
    """Decide for a sequence of `length` tokens with about `remaining` to come; `offer` is the
    target's, for this sequence."""
    if handoff.transport != WARM:
        return Warmth(False, WarmReason.TRANSPORT)
    if not offer.caching:
        return Warmth(False, WarmReason.NO_CACHE)
    if offer.use > MOST_USE:
        return Warmth(False, WarmReason.FULL)
    if remaining < LEAST_REMAINING:
        return Warmth(False, WarmReason.NEARLY_DONE)
    if length - offer.cached < LEAST_TOKENS:
        return Warmth(False, WarmReason.SHORT)
    return Warmth(True, WarmReason.WORTH_IT)


def warm_again(made_meanwhile: int, rounds: int) -> bool:
    """Whether a target that has been warmed `rounds` times is so far behind again that a resume
    would have to compute a lot."""
    return made_meanwhile > AGAIN_TOKENS and rounds < MOST_ROUNDS
