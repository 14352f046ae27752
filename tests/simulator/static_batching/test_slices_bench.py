"""The bench: its statistics, and that its section can be made of its rows."""

import pytest

from e2e.bench.slices_bench.experiments import Row, all_rows, cells
from e2e.bench.slices_bench.interval import Interval, show
from e2e.bench.slices_bench.report import markdown
from e2e.bench.slices_bench.verdict import judge


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return all_rows(requests=12, seeds=2)


def test_the_interval_is_students() -> None:
    # Standard deviation sqrt(2.5), standard error 0.7071, quantile 2.776.
    interval = Interval.of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert interval.mean == 3
    assert interval.plus_minus == pytest.approx(1.963, abs=1e-3)
    assert Interval.of([4.0]) == Interval(4.0, 0.0)


@pytest.mark.parametrize(
    ("gain", "expected"),
    [
        pytest.param(Interval(4.0, 0.1), "reproduced", id="above the claim"),
        pytest.param(
            Interval(3.1, 0.1), "reproduced within the confidence interval", id="around the claim"
        ),
        pytest.param(Interval(2.0, 0.1), "a gain, but smaller", id="below the claim"),
        pytest.param(Interval(0.1, 0.2), "not reproduced", id="maybe no gain at all"),
        pytest.param(Interval(-0.3, 0.1), "not reproduced", id="a loss"),
    ],
)
def test_a_gain_is_judged_by_its_interval(gain: Interval, expected: str) -> None:
    assert judge(gain) == expected


def test_values_are_shown_with_their_width_if_they_have_one() -> None:
    assert show(Interval(1.234, 0.056), "+.1%") == "+123.4% ± 5.6%"
    assert show(Interval(2.0, 0.0), ".1f") == "2.0"


def test_each_cell_gives_a_row_per_scheduler(rows: list[Row]) -> None:
    measured = [row for row in rows if row.experiment != "estimator"]
    assert len(measured) == sum(len(cell.schedulers) for cell in cells())
    bases = [row.values["gain_over_SLS"].mean for row in measured if row.scheduler == "SLS"]
    assert set(bases) == {0.0}


def test_the_section_shows_each_row(rows: list[Row]) -> None:
    section = markdown(rows)
    tables = [line for line in section.splitlines() if line.startswith("| SCLS")]
    assert len(tables) == 4
    assert "throughput over SLS:" in section
    assert "throughput over ILS:" in section
    assert "nan" not in section
