"""The streaming counts say what the planner makes of the whole list of requests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_cli.tally import LengthCounts, TraceTally
from cascade_cli.traces import TraceRequest
from cascade_planner.traffic import Traffic

LENGTHS = st.integers(1, 40_000)


@given(
    st.lists(st.tuples(LENGTHS, LENGTHS), min_size=100, max_size=200),
    st.integers(1, 60),
    st.sampled_from([131_072, 10_000]),
)
def test_the_traffic_is_that_of_all_requests_at_once(
    lengths: list[tuple[int, int]], batch: int, max_length: int
) -> None:
    rows = [TraceRequest(float(i), *pair) for i, pair in enumerate(lengths)]
    tally = TraceTally()
    for first in range(0, len(rows), batch):
        tally.add(rows[first : first + batch])
    assert tally.seconds is not None

    counted = tally.traffic(tally.seconds, max_length)
    prompts = [row.prompt_tokens for row in rows]
    finals = [row.prompt_tokens + row.output_tokens for row in rows]
    whole = Traffic.from_lengths(prompts, finals, tally.seconds, max_length)

    if not isinstance(whole, Traffic):
        assert counted == whole
        return
    assert isinstance(counted, Traffic)
    np.testing.assert_allclose(counted.prompts_above, whole.prompts_above, atol=1e-9)
    np.testing.assert_allclose(counted.finals_above, whole.finals_above, atol=1e-9)
    np.testing.assert_allclose(counted.decoded, whole.decoded, rtol=1e-9, atol=1e-6)


@given(st.lists(LENGTHS, min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_quantiles_are_within_a_bucket_of_the_true_ones(lengths: list[int], share: float) -> None:
    counts = LengthCounts()
    counts.add(np.asarray(lengths, dtype=np.float64))
    ordered = sorted(lengths)
    lower = ordered[max(0, int(share * len(ordered)) - 1)]
    upper = ordered[min(len(ordered) - 1, int(share * len(ordered)) + 1)]
    assert lower / 1.03 - 1 <= counts.quantile(share) <= upper * 1.03 + 1
    assert counts.mean == pytest.approx(sum(lengths) / len(lengths))


@pytest.mark.parametrize("length", [1, 2, 5, 17, 50])
def test_the_quantile_of_equal_short_lengths_is_that_length(length: int) -> None:
    counts = LengthCounts()
    counts.add(np.full(9, float(length)))
    assert counts.quantile(0.5) == counts.quantile(1.0) == length


def test_times_are_from_the_first_to_the_last_in_whatever_order() -> None:
    tally = TraceTally()
    tally.add([TraceRequest(10.0, 1, 1), TraceRequest(4.0, 1, 1)])
    tally.add([TraceRequest(3.0, 1, 1), TraceRequest(12.0, 1, 1)])
    assert tally.seconds == 9.0
    assert tally.out_of_order == 2


def test_without_times_there_is_no_span() -> None:
    tally = TraceTally()
    tally.add([TraceRequest(float("nan"), 1, 1)])
    assert tally.seconds is None
    assert tally.requests == 1
