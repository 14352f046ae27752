"""What an experiment is: policies, what varies, and what its tables show."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import product
from typing import Any, Final

from cascade_cli.scenario import Scenario

QUICK_SEEDS: Final = 2
QUICK_SHARE: Final = 10
QUICK_REQUESTS: Final = 300
"""A quick run has a tenth of the requests of a full one, but no fewer than these."""


class Measure(StrEnum):
    """What a cell finds out."""

    LATENCY = "latency"
    """The figures of one run."""
    CAPACITY = "capacity"
    """The highest load at which nine tenths of the requests meet both targets."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One question to the simulator. Equal cells have equal answers."""

    trace: str
    scenario: Scenario
    measure: Measure = Measure.LATENCY

    @property
    def question(self) -> str:
        """Everything that the answer depends on, beside the code."""
        return json.dumps(asdict(self), sort_keys=True)


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of something that varies, as tables call it."""

    label: str
    changes: tuple[tuple[str, Any], ...]
    """(field of Cell or Scenario, value)."""
    requests: float = 1.0
    """Factor on the number of requests."""


Axis = tuple[Setting, ...]
"""What varies, value by value."""
Point = tuple[Setting, ...]
"""A value of each of several axes."""


def axis(field: str, *values: Any, form: str = "{}") -> Axis:
    """Settings of one field, called by their values."""
    return tuple(Setting(form.format(value), ((field, value),)) for value in values)


@dataclass(frozen=True, slots=True)
class Shown:
    """A figure that tables show."""

    figure: str
    words: str
    form: str | None = None
    """How to print it in absolute terms; None: as a multiple of the baseline's."""
    scale: float = 1.0


RELATIVE: Final = (
    Shown("e2e_mean", "mean end-to-end time"),
    Shown("ttft_p99", "p99 time to first token"),
)


@dataclass(frozen=True, slots=True)
class Experiment:
    """Every policy at every point, with every seed."""

    name: str
    title: str
    text: str
    """What is asked and how to read the tables."""
    policies: tuple[str, ...]
    columns: tuple[Axis, ...]
    """What varies from column to column."""
    base: Scenario
    """What does not vary."""
    tables: tuple[Axis, ...] = ()
    """What varies from table to table."""
    rows: tuple[Axis, ...] = ()
    """What varies from row to row, beside the policy."""
    trace: str = "mooncake"
    baseline: str = "least-work"
    baseline_as_first: bool = False
    """Compare with the baseline at the first row of each axis, not at the same one."""
    shown: tuple[Shown, ...] = RELATIVE
    measure: Measure = Measure.LATENCY
    tuned: bool = False
    """Whether it changes what is compared, so that its losses are no news."""
    seeds: int = 5
    extra: bool = False
    """Whether it is left out unless it is named or all are asked for."""

    def cells(self) -> Iterator[Cell]:
        """All cells, those that others are compared with among them."""
        for place in self.places:
            yield from self.baseline_cells(place)
            for policy in self.policies:
                yield from self.cells_of(policy, place)

    def cells_of(self, policy: str, place: "Place") -> list[Cell]:
        """A policy at a place, with every seed."""
        return [
            _at(self, replace(self.base, policy=policy, seed=seed), place)
            for seed in range(1, self.seeds + 1)
        ]

    def baseline_cells(self, place: "Place") -> list[Cell]:
        """What the cells of any policy at this place are compared with."""
        if self.baseline_as_first:
            place = replace(place, row=self.row_points[0])
        return self.cells_of(self.baseline, place)

    @property
    def places(self) -> list["Place"]:
        """Table by table, row by row."""
        points = product(self.table_points, self.row_points, self.column_points)
        return [Place(table, column, row) for table, row, column in points]

    @property
    def table_points(self) -> list[Point]:
        """One per table."""
        return list(product(*self.tables))

    @property
    def column_points(self) -> list[Point]:
        """One per column."""
        return list(product(*self.columns))

    @property
    def row_points(self) -> list[Point]:
        """Several rows per policy, or one."""
        return list(product(*self.rows))

    def quick(self) -> "Experiment":
        """The same question with fewer seeds and requests."""
        requests = max(QUICK_REQUESTS, self.base.requests // QUICK_SHARE)
        return replace(
            self,
            seeds=min(self.seeds, QUICK_SEEDS),
            base=replace(self.base, requests=requests),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an experiment's tables a cell is, beside its policy."""

    table: Point
    column: Point
    row: Point

    @property
    def label(self) -> str:
        """As sentences call it."""
        return label((*self.table, *self.column, *self.row))


def label(point: Point) -> str:
    """A point as tables call it."""
    return ", ".join(setting.label for setting in point)


def _at(experiment: Experiment, scenario: Scenario, place: Place) -> Cell:
    settings = (*place.table, *place.column, *place.row)
    changes = {name: value for setting in settings for name, value in setting.changes}
    trace = changes.pop("trace", experiment.trace)
    factor = math.prod(setting.requests for setting in settings)
    scenario = replace(scenario, **changes)
    scenario = replace(scenario, requests=round(scenario.requests * factor))
    return Cell(trace, scenario, experiment.measure)
