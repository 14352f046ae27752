"""How much less an engine's memory holds than its book says: it shares what routers do not know
of, such as prompts that are no prefix of each other's text."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Saving:
    """What the engine's gauge found, at one moment."""

    blocks: float
    """Less than were expected."""
    share: float
    """The same, as a part of what was expected."""

    def still(self, held_blocks: float) -> int:
        """The blocks of it that still hold when the book says `held_blocks`: who came since saves
        nothing as far as is known, and what left takes its part along."""
        return int(min(self.blocks, held_blocks * self.share))


NO_SAVING: Final = Saving(0.0, 0.0)


def saving(expected_blocks: float, used_blocks: float) -> Saving:
    """What is saved when so many blocks should be in use and so many are."""
    if expected_blocks <= used_blocks:
        return NO_SAVING
    blocks = expected_blocks - used_blocks
    return Saving(blocks, blocks / expected_blocks)
