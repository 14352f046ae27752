"""Moments of step times: the sums that least squares needs, and nothing of the single steps."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np

from cascade_planner.arrays import Array

ROUNDING: Final = 1e-10
"""Share of a sum of squares that is rounding: 10^6 sums of numbers with 16 digits. A variance
below it is 0."""
INCONSISTENT: Final = 1e-6
"""Share by which sums may contradict each other: counters are read one after the other."""

LARGEST_SUM: Final = 1e30
"""More than the squares of a million tokens in each step of a thousand instances in a year."""


@dataclass(frozen=True, slots=True)
class StepMoments:
    """Sums over observations of an engine's steps; those of windows and instances add up.

    An observation has B decoding sequences, S KV tokens that they hold, P prompt tokens computed
    and t ms, each per step: of one step, or the average over the steps of a window. Between two
    readings of counters the moments are plain differences: what extrapolates each counter by
    itself, as Prometheus' increase() does, tears them apart.
    """

    count: float = 0.0
    """Observations."""
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

    def __add__(self, other: "StepMoments") -> "StepMoments":
        """The moments of both sets of observations together."""
        return StepMoments(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    @classmethod
    def from_steps(
        cls,
        sequences: Sequence[float],
        kv_tokens: Sequence[float],
        prefill_tokens: Sequence[float],
        ms: Sequence[float],
    ) -> "StepMoments":
        """Of observations given as four sequences of one length."""
        rows = np.array([sequences, kv_tokens, prefill_tokens, ms], dtype=np.float64)
        products = (rows @ rows.T)[np.triu_indices(4)]
        return cls(float(rows.shape[1]), *map(float, rows.sum(axis=1)), *map(float, products))

    @property
    def are_possible(self) -> bool:
        """Whether any observations have these moments."""
        sums = np.array(astuple(self))
        if not np.all((sums >= 0) & (sums <= LARGEST_SUM)):
            return False
        if self.count == 0:
            return not np.any(sums)
        raw = self._products()
        scatter = raw - np.outer(self._sums(), self._sums()) / self.count
        scale = np.sqrt(np.where(np.diag(raw) > 0, np.diag(raw), 1.0))
        smallest = np.linalg.eigvalsh(scatter / np.outer(scale, scale))[0]
        return bool(smallest >= -INCONSISTENT)

    def centred(self) -> "CentredMoments":
        """About the means. There must be observations, and the moments be possible."""
        raw, mean = self._products(), self._sums() / self.count
        scatter = raw - np.outer(mean, mean) * self.count
        constant = np.diag(scatter) <= ROUNDING * np.diag(raw)
        scatter[constant, :] = 0.0
        scatter[:, constant] = 0.0
        return CentredMoments(self.count, mean, scatter)

    def _sums(self) -> Array:
        return np.array([self.b, self.s, self.p, self.t])

    def _products(self) -> Array:
        return np.array(
            [
                [self.bb, self.bs, self.bp, self.bt],
                [self.bs, self.ss, self.sp, self.st],
                [self.bp, self.sp, self.pp, self.pt],
                [self.bt, self.st, self.pt, self.tt],
            ]
        )


@dataclass(frozen=True, eq=False, slots=True)
class CentredMoments:
    """Means of B, S, P and t, and the sums of products of their distances to them."""

    count: float
    mean: Array
    """Shape (4,)."""
    scatter: Array
    """Shape (4, 4); rows of what never varies are 0."""
