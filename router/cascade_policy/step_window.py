"""Step times of an engine, as a router can see them: averages over windows of a running batch.

Single arrivals say nothing, because sockets deliver several events at once; the tokens that a
sequence got within a second say how many steps there were. A window in which the batch changed, or
in which somebody was held back, is thrown away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

LEAST_TOKENS: Final = 16
"""Tokens that each sequence must have got within a window."""
LEAST_SECONDS: Final = 0.25
MOST_CHANGE: Final = 0.1
"""Part of the batch that may come or go within a window."""
MOST_LAG_SECONDS: Final = 0.005
"""How late a look may be: then events wait in sockets, too."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """An engine's batch at one moment."""

    at: float
    """Seconds."""
    tokens: Mapping[int, int]
    """Generated tokens of each sequence whose tokens are seen one by one, by its number."""
    sequences: int
    kv_tokens: int
    prefilled: int
    """Prompt tokens computed since the start."""
    pauses: int
    """How often a client was held back since the start."""
    lag: float
    """Seconds by which this look was late."""


@dataclass(slots=True)
class Moments:
    """Sums over steps: of 1, B, S, P, t and their products, for least squares. B counts decoding
    sequences, S the KV tokens they hold, P prompt tokens computed per step, t ms per step."""

    count: float = 0.0
    b: float = 0.0
    s: float = 0.0
    p: float = 0.0
    t: float = 0.0
    bb: float = 0.0
    bs: float = 0.0
    bp: float = 0.0
    bt: float = 0.0
    ss: float = 0.0
    sp: float = 0.0
    st: float = 0.0
    pp: float = 0.0
    pt: float = 0.0
    tt: float = 0.0

    def add(self, steps: float, b: float, s: float, p: float, t: float) -> None:
        """`steps` steps with these averages."""
        values = {"b": b, "s": s, "p": p, "t": t}
        for name in MOMENT_NAMES:
            product = steps
            for factor in "" if name == "count" else name:
                product *= values[factor]
            setattr(self, name, getattr(self, name) + product)


MOMENT_NAMES: Final = tuple(field.name for field in fields(Moments))


@dataclass(frozen=True, slots=True)
class Window:
    """Averages over the steps between two looks at a batch."""

    steps: float
    sequences: float
    kv_tokens: float
    prefill_tokens: float
    """Per step."""
    step_ms: float


def between(before: BatchState, after: BatchState) -> Window | None:
    """What the steps between two looks were like; None where they do not tell."""
    seconds = after.at - before.at
    stayed = before.tokens.keys() & after.tokens.keys()
    changed = len(before.tokens.keys() ^ after.tokens.keys())
    still = (
        seconds >= LEAST_SECONDS
        and bool(stayed)
        and changed <= MOST_CHANGE * len(stayed)
        and before.pauses == after.pauses
        and max(before.lag, after.lag) <= MOST_LAG_SECONDS
    )
    if not still:
        return None
    made = [after.tokens[number] - before.tokens[number] for number in stayed]
    if min(made) < LEAST_TOKENS:
        return None
    steps = sum(made) / len(made)
    return Window(
        steps=steps,
        sequences=(before.sequences + after.sequences) / 2,
        kv_tokens=(before.kv_tokens + after.kv_tokens) / 2,
        prefill_tokens=(after.prefilled - before.prefilled) / steps,
        step_ms=seconds * 1000 / steps,
    )
