"""The grid of sequence lengths on which traffic is counted and stages are cut."""

from functools import lru_cache
from typing import Final

SMALLEST_LENGTH: Final = 16
POINTS_PER_DOUBLING: Final = 4


@lru_cache(maxsize=64)
def length_grid(max_length: int) -> tuple[int, ...]:
    """Upper bounds of the length buckets, in tokens: 16 * 2^(k/4) rounded, ending at `max_length`.

    Bucket k covers the lengths (grid[k-1], grid[k]]; the first one starts at 0. Router and planner
    use the same grid, so a histogram bucket is a place where a stage may end.
    Raises ValueError when `max_length` is below 1.
    """
    if max_length < 1:
        raise ValueError(f"max_length must be at least 1 token, not {max_length}")
    bounds: list[int] = []
    step = 0
    while True:
        bound = round(SMALLEST_LENGTH * 2 ** (step / POINTS_PER_DOUBLING))
        if bound >= max_length:
            return (*bounds, max_length)
        bounds.append(bound)
        step += 1
