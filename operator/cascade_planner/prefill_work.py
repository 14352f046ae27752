"""What prefilling takes, by prompt length: less than whole prompts where prefixes are cached."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cascade_planner.arrays import Array
from cascade_planner.histogram import MAX_RATE, log_uniform_moment
from cascade_policy.engine_model import EngineModel


@dataclass(frozen=True, slots=True)
class PrefillWork:
    """Prefill that the prompts of one length bucket took, as rates per second.

    A prompt of L tokens with c of them cached takes w(L) - w(c) ms.
    """

    le_length: float
    """Longest prompt of the bucket, tokens."""
    requests: float
    work_ms: float
    """Sum of the requests' work."""
    work_ms_squared: float
    """Sum of its squares."""

    @property
    def believable(self) -> bool:
        """Whether all of it are numbers that a measurement can give."""
        rates = (self.requests, self.work_ms, self.work_ms_squared)
        return self.le_length > 0 and all(0 <= rate < np.inf for rate in rates)


@dataclass(frozen=True, eq=False, slots=True)
class PrefillShares:
    """Work done as a share of that for whole prompts, and its square likewise, by bucket.

    Two numbers that say all a stage's cost needs, and that outlast a change of engine.
    """

    of_work: Array
    of_square: Array

    @classmethod
    def whole(cls, buckets: int) -> "PrefillShares":
        """Every prompt is prefilled from its first token."""
        return cls(np.ones(buckets), np.ones(buckets))

    @classmethod
    def of(
        cls, measured: Iterable[PrefillWork], bounds: Array, engine: EngineModel
    ) -> "PrefillShares":
        """Shares in the buckets between `bounds`, of work that was counted with `engine`.

        Where nothing was measured prompts count as whole, everywhere if a row is no measurement.
        """
        requests, work, square = np.zeros((3, len(bounds) - 1))
        for row in measured:
            if not row.believable:
                return cls.whole(len(bounds) - 1)
            bucket = min(int(np.searchsorted(bounds[1:], row.le_length)), len(requests) - 1)
            requests[bucket] += min(row.requests, MAX_RATE)
            work[bucket] += row.work_ms
            square[bucket] += row.work_ms_squared
        low, high = bounds[:-1], bounds[1:]
        linear, quadratic = engine.prefill_ms_per_token, engine.prefill_ms_per_token_squared / 2
        one, two, three, four = (log_uniform_moment(low, high, power) for power in (1, 2, 3, 4))
        whole = linear * one + quadratic * two
        whole_square = linear**2 * two + 2 * linear * quadratic * three + quadratic**2 * four
        return cls(_share(work, requests * whole), _share(square, requests * whole_square))


def _share(part: Array, whole: Array) -> Array:
    shares: Array = np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 1.0)
    return np.minimum(shares, 1.0)
