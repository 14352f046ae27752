"""Batches of equal total length, even and uneven."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, pstdev
from typing import Final

BATCHES: Final = (8, 32, 64, 128)
MEANS: Final = (1024, 4096)
SPREADS: Final = (0.25, 0.5, 1.0, 2.0)
"""Coefficients of variation of log-normal lengths, before they are cut to whole tokens."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The lengths of the sequences that decode together, in tokens."""

    name: str
    lengths: tuple[int, ...]

    @property
    def total(self) -> int:
        """Tokens in the KV cache."""
        return sum(self.lengths)

    @property
    def cv(self) -> float:
        """Coefficient of variation of the lengths."""
        return pstdev(self.lengths) / fmean(self.lengths)


def batches(sizes: Sequence[int] = BATCHES, means: Sequence[int] = MEANS) -> Iterator[list[Batch]]:
    """Groups of batches with the same number of sequences and of tokens, the even one first."""
    for size in sizes:
        for mean in means:
            yield group(size, size * mean)


def group(size: int, total: int) -> list[Batch]:
    """The same tokens in `size` sequences: alike, spread, and with few long ones among short."""
    uneven = [
        Batch(f"cv {cv:g}", shared(total, log_normal(size, cv, Random(size * total))))
        for cv in SPREADS
    ]
    even = Batch("even", shared(total, [1.0] * size))
    return [even, *uneven, few_long(size, total)]


def few_long(size: int, total: int) -> Batch:
    """One sequence in sixteen is long, and they hold half of the tokens: 60 short and 4 long."""
    long = max(1, size // 16)
    short = max(1, size - long)
    weights = [1 / long] * long + [1 / short] * (size - long)
    return Batch(f"{long} long", shared(total, weights))


def log_normal(size: int, cv: float, random: Random) -> list[float]:
    """Weights of which the coefficient of variation is about `cv`."""
    sigma = math.sqrt(math.log1p(cv * cv))
    return [random.lognormvariate(0, sigma) for _ in range(size)]


def shared(total: int, weights: Sequence[float]) -> tuple[int, ...]:
    """`total` tokens in proportion to the weights: whole ones, at least one each, none lost.

    Raises ValueError where there are more sequences than tokens.
    """
    spare = total - len(weights)
    if spare < 0:
        raise ValueError(f"{total} tokens are too few for {len(weights)} sequences")
    whole = sum(weights)
    wanted = [spare * weight / whole for weight in weights]
    given = [math.floor(share) for share in wanted]
    rest = spare - sum(given)
    by_remainder = sorted(range(len(weights)), key=lambda place: given[place] - wanted[place])
    for place in by_remainder[:rest]:
        given[place] += 1
    return tuple(1 + tokens for tokens in given)
