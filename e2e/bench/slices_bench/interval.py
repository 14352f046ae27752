"""A mean over seeds, with its confidence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final

MAX_SEEDS: Final = 10

_STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5 % quantiles of Student's distribution for 1 to 9 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the half width of its 95 % confidence interval."""

    mean: float
    plus_minus: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """From one value per seed, 1 to MAX_SEEDS of them; a single value has no width."""
        if len(values) == 1:
            return cls(values[0], 0.0)
        error = stdev(values) / math.sqrt(len(values))
        return cls(fmean(values), _STUDENT[len(values) - 2] * error)


def show(value: Interval, form: str) -> str:
    """As in tables, both numbers in the format `form`; no width where there is none."""
    if value.plus_minus == 0:
        return f"{value.mean:{form}}"
    return f"{value.mean:{form}} ± {value.plus_minus:{form.lstrip('+')}}"
