"""Many values reduced to as many points as a screen shows."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MOST_POINTS: Final = 400


def cdf(values: ArrayLike, points: int = MOST_POINTS) -> tuple[Floats, Floats]:
    """Distribution of `values`: (value, share of all that are no greater), at most `points` each.

    The least and the greatest value are always there. NaN counts as never reached, so that the
    share ends below 1 when some requests did not end.
    """
    every = np.asarray(values, dtype=np.float64).ravel()
    reached = np.sort(every[np.isfinite(every)])
    if not reached.size:
        return np.empty(0), np.empty(0)
    ranks = np.unique(np.linspace(0, reached.size - 1, min(points, reached.size)).round()).astype(
        np.int64
    )
    return reached[ranks], (ranks + 1) / every.size


def thinned(times: Floats, series: Floats, points: int = MOST_POINTS) -> tuple[Floats, Floats]:
    """A series over time, (T,) or (T, columns), as means of at most `points` equal groups.

    Groups of one leave everything as it was. A group without any number stays NaN.
    """
    length = times.size
    group = max(1, -(-length // points))
    if group == 1:
        return times, series
    starts = np.arange(0, length, group)
    known = np.isfinite(series)
    sums = np.add.reduceat(np.where(known, series, 0.0), starts, axis=0)
    counts = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    means = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return times[starts], means


def equal_groups(keys: ArrayLike, groups: int) -> list[NDArray[np.int64]]:
    """Indices of `keys` in order of size, cut into `groups` parts of nearly equal number.

    Equal keys may be parted: a length that a fifth of all prompts have fills two tenths.
    """
    order = np.argsort(np.asarray(keys), kind="stable").astype(np.int64)
    return [part for part in np.array_split(order, groups) if part.size]


def means_between(values: Floats, parts: list[NDArray[np.int64]]) -> Floats:
    """Mean of the known `values` in each part; NaN for a part without any."""
    means = []
    for part in parts:
        known = values[part]
        known = known[np.isfinite(known)]
        means.append(float(known.mean()) if known.size else np.nan)
    return np.asarray(means)
