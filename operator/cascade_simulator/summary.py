"""What a run was like, in a few numbers."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cascade_simulator.outcome import Floats, Outcome

WINDOW: Final = (0.10, 0.95)
"""Part of the run whose arrivals count: its start is too empty, its end too short."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Times in ms."""

    mean: float
    p50: float
    p99: float

    @classmethod
    def of(cls, values: Floats) -> "Distribution":
        """Of one value per request; NaN, what never happened, counts as infinitely late.

        All NaN when there are no values.
        """
        if not values.size:
            return cls(*(float("nan"),) * 3)
        late = np.where(np.isnan(values), np.inf, values)
        # Between a number and infinity there is nothing to interpolate.
        p50, p99 = np.quantile(late, (0.5, 0.99), method="higher").tolist()
        return cls(float(late.mean()), p50, p99)


@dataclass(frozen=True, slots=True)
class Summary:
    """Latencies of the requests that arrived in a window of the run.

    A request that never ended stays in: it counts as infinitely late.
    """

    requests: int
    completed_share: float
    ttft_ms: Distribution
    tpot_ms: Distribution
    """Per output token after the first; answers of one token are left out."""
    e2e_ms: Distribution
    normalised_ms: Distribution
    """End-to-end time per output token."""
    handovers_per_request: float


def summarise(outcome: Outcome, window: tuple[float, float] = WINDOW) -> Summary:
    """The summary over the arrivals in `window`, as parts of the time to the last arrival."""
    chosen = in_window(outcome, window)
    several = chosen & (outcome.output > 1)
    count = int(chosen.sum())
    return Summary(
        requests=count,
        completed_share=float(np.mean(~np.isnan(outcome.end_ms[chosen]))) if count else 1.0,
        ttft_ms=Distribution.of(outcome.ttft_ms[chosen]),
        tpot_ms=Distribution.of(outcome.tpot_ms[several]),
        e2e_ms=Distribution.of(outcome.e2e_ms[chosen]),
        normalised_ms=Distribution.of(outcome.normalised_ms[chosen]),
        handovers_per_request=float(outcome.handovers[chosen].mean()) if count else 0.0,
    )


def attainment(
    outcome: Outcome,
    ttft_target_ms: float,
    tpot_target_ms: float,
    window: tuple[float, float] = WINDOW,
) -> float:
    """Share of the requests in the window that met both targets; unfinished ones did not."""
    chosen = in_window(outcome, window)
    if not chosen.any():
        return 1.0
    met = (outcome.ttft_ms <= ttft_target_ms) & (outcome.tpot_ms <= tpot_target_ms)
    return float(np.mean(met[chosen]))


def in_window(outcome: Outcome, window: tuple[float, float] = WINDOW) -> NDArray[np.bool_]:
    """Which requests arrived in `window`; shape (requests,)."""
    arrivals = outcome.arrival_ms
    end = float(arrivals[-1]) if arrivals.size else 0.0
    start, stop = window
    chosen: NDArray[np.bool_] = (arrivals >= start * end) & (arrivals <= stop * end)
    return chosen
