"""The arithmetic of the router bench, and what it reads of processes."""

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench.router_bench import wire
from e2e.bench.router_bench.measurement import Quantiles, Spread, added, quantiles, ratios, spread
from e2e.bench.router_bench.processes import CpuTime, cpu_time, family, memory, open_files

MICROSECOND = 1000
"""In nanoseconds."""


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        pytest.param([7.0], Quantiles(7, 7), id="one value is all quantiles"),
        pytest.param([3, 1, 2], Quantiles(2, 3), id="the middle one of three is the median"),
        pytest.param(list(range(1, 101)), Quantiles(50, 99), id="a hundred values"),
        pytest.param([0.0] * 98 + [5, 9], Quantiles(0, 5), id="one in a hundred may be above p99"),
    ],
)
def test_quantiles_are_values_that_occurred(values: list[float], wanted: Quantiles) -> None:
    assert quantiles(values) == wanted


def test_no_values_have_no_quantiles() -> None:
    with pytest.raises(ValueError, match="no value was measured"):
        quantiles([])
    assert spread([]) is None


@given(st.lists(st.integers(0, 1000), min_size=1))
def test_at_most_one_in_a_hundred_is_above_the_99th_percentile(values: list[int]) -> None:
    found = quantiles(values)
    assert sum(value > found.p99 for value in values) <= len(values) / 100
    assert sum(value > found.p50 for value in values) <= len(values) / 2
    assert sum(value < found.p50 for value in values) <= len(values) / 2


def test_what_a_router_adds_is_told_against_the_direct_way_of_the_same_repetition() -> None:
    assert added({0: 9.0, 1: 12.0, 2: 8.0}, {0: 2.0, 1: 7.0}) == [7.0, 5.0]
    assert spread([7.0, 5.0, 11.0]) == Spread(7.0, 5.0, 11.0)


def test_a_ratio_is_to_the_best_of_the_others_in_the_same_repetition() -> None:
    others = [{0: 10.0, 1: 30.0}, {0: 20.0, 1: 15.0, 3: 0.0}]
    assert ratios({0: 12.0, 1: 15.0, 2: 9.0, 3: 9.0}, others) == [1.2, 1.0]


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        pytest.param(
            CpuTime({1: 500 * MICROSECOND}, 10, 10),
            CpuTime({1: 700 * MICROSECOND}, 13, 11),
            (200, 0.25),
            id="nanoseconds tell how much and ticks how it divides",
        ),
        pytest.param(
            CpuTime({1: 100 * MICROSECOND}, 0, 0),
            CpuTime({1: 150 * MICROSECOND, 2: 30 * MICROSECOND}, 0, 1),
            (80, 1.0),
            id="a thread that began in between counts from zero",
        ),
        pytest.param(
            CpuTime({1: 100 * MICROSECOND, 2: 900 * MICROSECOND}, 0, 0),
            CpuTime({1: 150 * MICROSECOND}, 1, 0),
            (50, 0.0),
            id="a thread that ended takes nothing away",
        ),
        pytest.param(
            CpuTime({1: 5 * MICROSECOND}, 3, 3),
            CpuTime({1: 6 * MICROSECOND}, 3, 3),
            (1, 0.0),
            id="less than a tick has no known share",
        ),
    ],
)
def test_cpu_time_between_two_readings(
    before: CpuTime, after: CpuTime, wanted: tuple[float, float]
) -> None:
    assert after.since(before) == wanted


def test_work_shows_in_the_cpu_time_of_its_process() -> None:
    before = cpu_time([os.getpid()])
    own = os.times()
    while os.times().user + os.times().system - own.user - own.system < 0.05:
        sum(range(1000))
    used, kernel = cpu_time([os.getpid()]).since(before)
    assert used > 40_000
    assert 0 <= kernel <= 1


def test_children_belong_to_the_family_and_the_dead_do_not() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as process:
        assert _eventually(lambda: len(family([process.pid])) == 2)
        members = family([process.pid])
        assert memory(members).rss_mb > memory(members).pss_mb > 1
        assert open_files(members) >= 6
        process.communicate(b"\n")
    assert family([process.pid]) == []


def _eventually(condition: Any) -> bool:
    """Whether it comes true; each look takes a while by itself."""
    return any(condition() for _ in range(10_000))


@pytest.mark.parametrize(
    ("sent", "received", "wanted"),
    [
        pytest.param(10, 35, 25, id="later"),
        pytest.param(wire.MICROSECONDS - 5, 7, 12, id="across the turn of the clock"),
        pytest.param(35, 35, 0, id="at once"),
    ],
)
def test_a_delay_is_the_time_between_two_stamps(sent: int, received: int, wanted: int) -> None:
    assert wire.delay_us(sent, received) == wanted
