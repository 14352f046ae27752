"""Batches of equal size and what is made of their times; the kernels need PyTorch, see
`e2e/vllm_engine`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.bench.gpu_bench.lengths import Batch, batches, shared
from e2e.bench.gpu_bench.penalty import Timing, penalties, slope
from e2e.bench.gpu_bench.report import NOT_MEASURED, Report


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.integers(50, 10_000))
def test_tokens_are_shared_in_proportion_and_none_is_lost(weights: list[float], total: int) -> None:
    given_out = shared(total, weights)
    assert sum(given_out) == total
    assert min(given_out) >= 1
    spare = total - len(weights)
    for weight, tokens in zip(weights, given_out, strict=True):
        assert abs(tokens - 1 - spare * weight / sum(weights)) < 1


def test_more_sequences_than_tokens_are_refused() -> None:
    with pytest.raises(ValueError, match="3 tokens are too few for 4 sequences"):
        shared(3, [1.0] * 4)


def test_batches_of_a_group_have_as_many_sequences_and_tokens_and_differ_in_spread() -> None:
    for group in batches():
        even, *uneven = group
        assert even.cv == 0
        assert {(len(batch.lengths), batch.total) for batch in group} == {
            (len(even.lengths), even.total)
        }
        spreads = [batch.cv for batch in uneven[:-1]]
        assert spreads == sorted(spreads)
        assert spreads[0] > 0


def test_sixty_short_and_four_long_ones_share_the_tokens_by_halves() -> None:
    last: Batch = next(iter(batches((64,), (1024,))))[-1]
    assert last.name == "4 long"
    assert sum(sorted(last.lengths)[-4:]) == pytest.approx(last.total / 2, rel=0.01)


def _timing(batch: str, cv: float, ms: float) -> Timing:
    return Timing("a kernel", batch, 64, 65536, cv, ms, ms, ms)


@given(st.floats(0, 1))
def test_the_slope_of_a_known_penalty_is_found_also_beyond_its_cap(h: float) -> None:
    cvs = (0.25, 0.5, 1.0, 2.0)
    timed = [_timing(f"cv {cv}", cv, 2 * min(1.5, 1 + h * cv)) for cv in cvs]
    found = slope(penalties([_timing("even", 0, 2), *timed]))
    assert found == pytest.approx(h, abs=0.0051)


def test_kernels_that_uneven_lengths_make_faster_have_no_penalty() -> None:
    found = penalties([_timing("even", 0, 2), _timing("cv 1", 1, 1.5)])
    assert [one.factor for one in found] == [0.75]
    assert slope(found) == 0
    assert slope([]) is None


def test_what_has_no_even_batch_beside_it_is_left_out() -> None:
    assert penalties([_timing("cv 1", 1, 1.5)]) == []


def test_a_report_says_whether_anything_was_measured() -> None:
    timings = [_timing("even", 0, 2), _timing("cv 1", 1, 2.5)]
    smoke = Report("no GPU", "2", False, timings)
    assert NOT_MEASURED in smoke.page()
    assert smoke.text() == (
        "1 kernels computed 2 batches right; there is no GPU, so nothing was measured"
    )
    real = Report("A GPU", "2", True, timings)
    assert "| a kernel | 64 | 1024 | cv 1 | 1.00 | 2.500 | 1.25 |" in real.page()
    assert real.text().splitlines()[-1] == "a kernel: heterogeneity 0.250"
