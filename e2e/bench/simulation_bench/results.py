"""Figures of finished cells, looked up as tables and sentences need them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cascade_cli.scenario import is_length_blind
from e2e.bench.simulation_bench.cache import Figures
from e2e.bench.simulation_bench.experiment import Cell, Experiment, Place
from e2e.bench.slices_bench.interval import Interval


@dataclass(frozen=True, slots=True)
class Comparison:
    """A policy against another one at a place of an experiment."""

    where: str
    """The place as tables call it."""
    ratio: Interval


@dataclass(frozen=True, slots=True)
class Results:
    """What was run, and the answers by cell."""

    experiments: Mapping[str, Experiment]
    answers: Mapping[Cell, Figures]

    def absolute(self, name: str, policy: str, place: Place, figure: str) -> Interval:
        """A figure over the seeds."""
        cells = self.experiments[name].cells_of(policy, place)
        return _interval([self.answers[cell][figure] for cell in cells])

    def relative(self, name: str, policy: str, place: Place, figure: str) -> Interval:
        """A figure as a multiple of the baseline's."""
        experiment = self.experiments[name]
        bases = experiment.baseline_cells(place)
        return self._paired(experiment.cells_of(policy, place), bases, figure)

    def against_baseline(self, name: str, policy: str, figure: str) -> Iterator[Comparison]:
        """The same at every place."""
        for place in self.experiments[name].places:
            yield Comparison(place.label, self.relative(name, policy, place, figure))

    def versus(self, name: str, policy: str, other: str, figure: str) -> Iterator[Comparison]:
        """A figure of one policy as a multiple of another one's, at every place."""
        experiment = self.experiments[name]
        for place in experiment.places:
            cells = experiment.cells_of(policy, place)
            others = experiment.cells_of(other, place)
            yield Comparison(place.label, self._paired(cells, others, figure))

    def against_strongest(self, name: str, policy: str, figure: str) -> Iterator[Comparison]:
        """A figure as a multiple of that of whichever policy blind to lengths has, at that place,
        the least mean end-to-end time."""
        experiment = self.experiments[name]
        for place in experiment.places:
            rivals = {
                rival: experiment.cells_of(rival, place)
                for rival in experiment.policies
                if is_length_blind(rival)
            }
            if is_length_blind(experiment.baseline):
                rivals[experiment.baseline] = experiment.baseline_cells(place)
            strongest = min(rivals, key=lambda rival: self._total(rivals[rival]))
            ratio = self._paired(experiment.cells_of(policy, place), rivals[strongest], figure)
            yield Comparison(f"{place.label}; {strongest}", ratio)

    def _total(self, cells: Sequence[Cell]) -> float:
        return math.fsum(self.answers[cell]["e2e_mean"] for cell in cells)

    def _paired(self, cells: Sequence[Cell], bases: Sequence[Cell], figure: str) -> Interval:
        """Ratios seed by seed: what a seed does to both cancels. A multiple of nothing is NaN."""
        ratios = []
        for cell, base in zip(cells, bases, strict=True):
            divisor = self.answers[base][figure]
            ratios.append(self.answers[cell][figure] / divisor if divisor else math.nan)
        return _interval(ratios)


def _interval(values: Sequence[float]) -> Interval:
    """Without a width where a value is no number or, as a request never ended, infinite."""
    if all(math.isfinite(value) for value in values):
        return Interval.of(values)
    return Interval(math.fsum(values) / len(values), 0.0)
