"""The figures of each policy, beside those of the strongest length-blind one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_cli.report.study import Setup, Study
from cascade_simulator.outcome import Outcome
from cascade_simulator.summary import attainment, summarise


@dataclass(frozen=True, slots=True)
class Figures:
    """One policy at one load: means over the seeds. Times in ms; infinite when requests did not
    end."""

    ttft_mean: float
    ttft_p99: float
    tpot_mean: float
    tpot_p99: float
    e2e_mean: float
    e2e_p99: float
    slo_share: float
    """Requests that met both targets; one that did not end, met none."""
    goodput: float
    """Requests per second that met both targets."""
    handovers: float
    """Per request."""
    preemptions: float
    """Per run."""
    unfinished: float
    """Requests per run that did not end."""


@dataclass(frozen=True, slots=True)
class Row:
    """A policy at a load, and the policy that it is compared with."""

    policy: str
    load: float
    figures: Figures
    baseline: str
    of_baseline: Figures

    def relative(self, figure: Callable[[Figures], float]) -> float:
        """A figure as a multiple of the baseline's; NaN where that is 0 or not finite."""
        base = figure(self.of_baseline)
        return figure(self.figures) / base if base and math.isfinite(base) else math.nan


TIMES: Final[tuple[tuple[str, str, Callable[[Figures], float]], ...]] = (
    ("TTFT", "mean", lambda figures: figures.ttft_mean),
    ("TTFT", "p99", lambda figures: figures.ttft_p99),
    ("TPOT", "mean", lambda figures: figures.tpot_mean),
    ("TPOT", "p99", lambda figures: figures.tpot_p99),
    ("E2E", "mean", lambda figures: figures.e2e_mean),
    ("E2E", "p99", lambda figures: figures.e2e_p99),
)
"""What tables show of the times: (what, which, where to find it)."""


def compare(study: Study) -> tuple[Row, ...]:
    """A row per load and policy, in order."""
    rows = []
    for load in study.loads:
        figures = {
            policy: _figures(study.outcomes(policy, load), study.setup) for policy in study.policies
        }
        baseline = _baseline(figures, study.setup.length_blind)
        rows += [
            Row(policy, load, figures[policy], baseline, figures[baseline])
            for policy in study.policies
        ]
    return tuple(rows)


def _baseline(figures: dict[str, Figures], length_blind: frozenset[str]) -> str:
    """The length-blind policy with the least mean end-to-end time; the first when all see."""
    blind = [policy for policy in figures if policy in length_blind]
    return min(blind or list(figures)[:1], key=lambda policy: figures[policy].e2e_mean)


def _figures(outcomes: Sequence[Outcome], setup: Setup) -> Figures:
    per_run = [_of_run(outcome, setup) for outcome in outcomes]
    return Figures(*np.asarray(per_run).mean(axis=0).tolist())


def _of_run(outcome: Outcome, setup: Setup) -> list[float]:
    summary = summarise(outcome)
    in_time = attainment(outcome, setup.ttft_target_ms, setup.tpot_target_ms)
    per_second = len(outcome.arrival_ms) / max(float(outcome.arrival_ms[-1]) / 1000, 1e-9)
    return [
        summary.ttft_ms.mean,
        summary.ttft_ms.p99,
        summary.tpot_ms.mean,
        summary.tpot_ms.p99,
        summary.e2e_ms.mean,
        summary.e2e_ms.p99,
        in_time,
        in_time * per_second,
        summary.handovers_per_request,
        float(outcome.counters.preemptions),
        float(np.isnan(outcome.end_ms).sum()),
    ]
