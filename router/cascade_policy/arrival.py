"""What a front tells an instance about a sequence, when it asks and when it sends."""

from dataclasses import dataclass
from enum import StrEnum

from cascade_policy.prefix_index import Block


class Purpose(StrEnum):
    """Why an instance gets a request: a closed set, the label values of a counter."""

    FIRST = "first"
    RESUME = "resume"
    """A sequence that was begun elsewhere goes on here."""
    WARM = "warm"
    """A sequence that will soon go on here: only its prefix is wanted in the cache."""
    CONTROL = "control"
    """Nothing is generated."""


@dataclass(frozen=True, slots=True)
class Question:
    """Asks for an offer. Lengths in tokens."""

    length: int = 0
    prefix: tuple[Block, ...] = ()
    """Blocks of the prompt, thinned."""
    sequence: str = ""
    """A name for the sequence that is the same at every instance; empty before it has one."""
    reserve: bool = False
    """Whether room is to be kept for it, because it has waited for long."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A sequence that is sent. Lengths in tokens."""

    length: int = 0
    """Of the sequence now: prompt, and output so far."""
    remaining: float = 0.0
    """Output tokens expected."""
    bid: float | None = None
    """The price that was bid; None: the target takes it whatever its price is."""
    purpose: Purpose = Purpose.FIRST
    prefix: tuple[Block, ...] = ()
    """All blocks of the prompt."""
    sequence: str = ""
    blind: bool = False
    """Whether nobody sees its tokens one by one."""
    movable: bool = False
    """Whether its front can take it away again."""
