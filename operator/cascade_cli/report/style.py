"""Colours and lines: one per policy, the same on every plot."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's palette without black and yellow, which vanish on a dark or a light page: told
apart with any kind of colour vision."""
DASHES: Final = ("solid", "dash", "dot", "dashdot")
"""What tells policies apart once the colours are used up."""
STAGE_COLOURS: Final = (
    "#46519C",
    "#31688E",
    "#26828E",
    "#1F9E89",
    "#35B779",
    "#6ECE58",
    "#9AD83C",
    "#C9D62B",
)
"""From short to long lengths: the middle of viridis, whose lightness grows along."""
PROMPT_COLOUR: Final = "#56B4E9"
FINAL_COLOUR: Final = "#E69F00"
RULE_COLOUR: Final = "#8C8C8C"
"""Marks and reference lines, visible on either background."""


@dataclass(frozen=True, slots=True)
class Pen:
    """How a policy is drawn."""

    colour: str
    dash: str


def pens(policies: Sequence[str]) -> dict[str, Pen]:
    """A pen for each policy, in order; the combinations repeat after 28 policies."""
    return {
        policy: Pen(
            COLOURS[position % len(COLOURS)], DASHES[position // len(COLOURS) % len(DASHES)]
        )
        for position, policy in enumerate(policies)
    }


def stage_colours(stages: int) -> list[str]:
    """Colours of `stages` stages, spread over the scale; beyond eight, neighbours share one."""
    last = len(STAGE_COLOURS) - 1
    return [STAGE_COLOURS[round(last * stage / max(1, stages - 1))] for stage in range(stages)]
