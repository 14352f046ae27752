"""Numbers that only grow, and their Prometheus text: cheap to count, formatted when asked."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate


class Histogram:
    """Observations in buckets with inclusive upper `bounds`, ascending."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str, labels: str) -> list[str]:
        """The sample lines; `labels` is the inside of the braces, not empty."""
        bounds = [*(repr(float(bound)) for bound in self.bounds), "+Inf"]
        cumulative = list(accumulate(self.counts))
        lines = [
            f'{name}_bucket{{{labels},le="{bound}"}} {count}'
            for bound, count in zip(bounds, cumulative, strict=True)
        ]
        lines.append(f"{name}_count{{{labels}}} {cumulative[-1]}")
        lines.append(f"{name}_sum{{{labels}}} {self.total!r}")
        return lines


def token_bounds(limit: int) -> tuple[float, ...]:
    """1, 2, 5, 10, ... up to `limit`: the buckets that vLLM uses for token counts."""
    bounds: list[float] = []
    scale = 1
    while True:
        for mantissa in (1, 2, 5):
            if mantissa * scale > limit:
                return tuple(bounds)
            bounds.append(mantissa * scale)
        scale *= 10
