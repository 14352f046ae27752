"""The schedule keeps the trace's bursts and has the rate that was asked for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.traces import TraceRequest
from e2e.load.schedule import InvalidSlice, cut_answers, make_schedule


def trace(*arrivals: float) -> list[TraceRequest]:
    return [TraceRequest(arrival, 10, 10) for arrival in arrivals]


GAPS = st.lists(st.floats(0.01, 50), min_size=1, max_size=40)


@given(GAPS, st.floats(1, 20), st.floats(1, 20))
def test_count_and_duration_are_as_asked_and_gaps_keep_their_proportions(
    gaps: list[float], rate: float, duration: float
) -> None:
    arrivals = [sum(gaps[:place]) for place in range(len(gaps) + 1)]
    rows = trace(*arrivals)
    schedule = make_schedule(rows, rate=rate, duration=duration)
    times = [arrival.at for arrival in schedule.arrivals]
    assert len(times) == round(rate * duration)
    assert times == sorted(times)
    assert times[0] == 0
    assert times[-1] <= duration
    assert schedule.trace_seconds == pytest.approx(schedule.time_factor * duration)
    for arrival in schedule.arrivals[: len(rows)]:
        assert arrival.at * schedule.time_factor == pytest.approx(arrivals[arrival.index])


def test_the_slice_starts_at_the_offset() -> None:
    schedule = make_schedule(trace(0, 10, 20, 30), rate=2, duration=1, offset=10)
    assert [arrival.index for arrival in schedule.arrivals] == [1, 2]
    assert schedule.time_factor == 20


def test_a_trace_that_is_too_short_begins_again_after_a_mean_gap() -> None:
    schedule = make_schedule(trace(0, 10, 20), rate=7, duration=1)
    times = [arrival.at * schedule.time_factor for arrival in schedule.arrivals]
    assert times == pytest.approx([0, 10, 20, 30, 40, 50, 60])
    assert schedule.laps == 3


def test_longer_answers_are_cut_and_nothing_else_changes() -> None:
    rows = [TraceRequest(0, 10, 3), TraceRequest(1, 10, 900), TraceRequest(2, 10, 400)]
    schedule = make_schedule(rows, rate=1, duration=3)
    cut = cut_answers(schedule, 400)
    assert [arrival.request.output_tokens for arrival in cut.arrivals] == [3, 400, 400]
    assert [arrival.at for arrival in cut.arrivals] == [arrival.at for arrival in schedule.arrivals]


@pytest.mark.parametrize(
    ("rate", "duration", "offset", "words"),
    [
        pytest.param(0, 1, 0, "above 0", id="no rate"),
        pytest.param(0.1, 1, 0, "no request", id="too few for one request"),
        pytest.param(1, 1, 21, "behind the end", id="an offset behind the end"),
    ],
)
def test_empty_slices_are_refused(rate: float, duration: float, offset: float, words: str) -> None:
    with pytest.raises(InvalidSlice, match=words):
        make_schedule(trace(0, 10, 20), rate=rate, duration=duration, offset=offset)
