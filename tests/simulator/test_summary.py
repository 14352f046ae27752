"""A summary is honest about what never ended."""

from dataclasses import astuple, replace

import numpy as np
import pytest

from cascade_simulator.outcome import Outcome
from cascade_simulator.summary import Distribution, attainment, in_window, summarise
from tests.simulator.builders import run, workload


def outcome() -> Outcome:
    """Twenty requests, 100 ms apart; 12 ms to the first token, 112 ms to the eleventh."""
    made = run(workload(*[(100.0 * number, 20, 11) for number in range(20)]))
    first = made.arrival_ms + 12
    return replace(made, first_token_ms=first, end_ms=first + 100)


def test_the_start_and_the_end_of_a_run_do_not_count() -> None:
    assert in_window(outcome()).sum() == 17
    assert summarise(outcome()).requests == 17
    assert summarise(outcome(), (0.0, 1.0)).requests == 20


def test_times_are_those_of_the_requests() -> None:
    summary = summarise(outcome())
    assert summary.completed_share == 1
    assert astuple(summary.ttft_ms) == pytest.approx((12, 12, 12))
    assert summary.tpot_ms.p99 == pytest.approx(10)
    assert summary.e2e_ms.mean == pytest.approx(112)
    assert summary.normalised_ms.p50 == pytest.approx(112 / 11)


def test_percentiles_are_taken_from_the_late_end() -> None:
    assert Distribution.of(np.arange(101.0)) == Distribution(50.0, 50.0, 99.0)


def test_an_unfinished_request_is_infinitely_late() -> None:
    stuck = outcome()
    stuck.end_ms[10] = np.nan
    summary = summarise(stuck)
    assert summary.completed_share == pytest.approx(16 / 17)
    assert summary.e2e_ms.mean == np.inf
    assert summary.e2e_ms.p99 == np.inf
    assert summary.e2e_ms.p50 == pytest.approx(112)
    # Its first token came in time.
    assert summary.ttft_ms.mean == pytest.approx(12)


@pytest.mark.parametrize(
    ("ttft", "tpot", "share"),
    [
        pytest.param(12.5, 10.5, 16 / 17, id="both met by all that ended"),
        pytest.param(11.5, 10.5, 0, id="first tokens too late"),
        pytest.param(12.5, 9.5, 0, id="later tokens too late"),
    ],
)
def test_a_target_is_met_when_both_times_are_within_it(
    ttft: float, tpot: float, share: float
) -> None:
    stuck = outcome()
    stuck.end_ms[10] = np.nan
    assert attainment(stuck, ttft, tpot) == pytest.approx(share)


def test_nothing_is_not_a_number() -> None:
    summary = summarise(run(workload()))
    assert summary.requests == 0
    assert np.isnan(summary.e2e_ms.mean)
