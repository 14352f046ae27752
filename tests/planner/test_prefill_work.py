"""Prefill that was measured, in place of that of whole prompts."""

import math

import numpy as np
import pytest

from cascade_planner.arrays import Array
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import PlanOptions, solve
from cascade_planner.prefill_work import PrefillWork
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from cascade_policy.profiles import profile

MAX_LENGTH = 4096
SECONDS = 600.0
ENGINE = profile("h100-8b")


def whole_prompts(prompts: Array, finals: Array, seconds: float, max_length: int) -> Traffic:
    traffic = Traffic.from_lengths(prompts, finals, seconds, max_length)
    assert isinstance(traffic, Traffic)
    return traffic


def measured(rate: float, prompt: float, cached: float, le_length: float) -> PrefillWork:
    work = ENGINE.prefill_ms(prompt, cached)
    return PrefillWork(le_length, rate, rate * work, rate * work * work)


def test_prefill_work_replaces_that_of_whole_prompts() -> None:
    lengths = np.array([100.0] * 200 + [3000.0] * 100)
    whole = whole_prompts(lengths, lengths, SECONDS, MAX_LENGTH)
    rows = [measured(200 / SECONDS, 100, 0, 108), measured(100 / SECONDS, 3000, 2700, 3044)]
    cached = whole.with_prefill_work(rows, ENGINE)
    pool = Partition((MAX_LENGTH,), (1,))
    work, _ = Pricing(cached, ENGINE, Objective()).forecast(pool)
    exact = (200 * ENGINE.prefill_ms(100) + 100 * ENGINE.prefill_ms(3000, 2700)) / SECONDS / 1000
    # A prompt is known within its bucket, and is never taken to be more than whole.
    assert float(work.prefill[0]) == pytest.approx(exact, rel=0.05)
    squares = 200 * ENGINE.prefill_ms(100) ** 2 + 100 * ENGINE.prefill_ms(3000, 2700) ** 2
    assert float(work.prefill_squared[0]) == pytest.approx(squares / SECONDS / 1000, rel=0.1)
    assert cached.summary == whole.summary


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(PrefillWork(math.nan, 1, 1, 1), id="a bucket that is no length"),
        pytest.param(PrefillWork(3044, -1, 1, 1), id="a negative rate"),
        pytest.param(PrefillWork(3044, 1, math.nan, 1), id="work that is no number"),
        pytest.param(PrefillWork(3044, 1, 1, math.inf), id="work without bound"),
        pytest.param(PrefillWork(3044, 0, 0, 0), id="nothing measured"),
        pytest.param(PrefillWork(3044, 1, 1e6, 1e12), id="more than whole prompts"),
    ],
)
def test_prefill_work_that_cannot_be_believed_counts_prompts_as_whole(row: PrefillWork) -> None:
    traffic = whole_prompts(np.full(200, 3000.0), np.full(200, 3100.0), SECONDS, MAX_LENGTH)
    given_it = traffic.with_prefill_work([row], ENGINE)
    assert given_it.prefill.of_work.tolist() == traffic.prefill.of_work.tolist()
    assert given_it.prefill.of_square.tolist() == traffic.prefill.of_square.tolist()


def test_long_prompts_that_are_cached_need_fewer_instances() -> None:
    """A workload whose long prompts are 80 % cached, in a plan with one fixed boundary."""
    generator = np.random.default_rng(5)
    prompts = np.where(generator.uniform(size=6000) < 0.7, 500.0, 8000.0)
    finals = prompts + generator.integers(50, 400, 6000).astype(np.float64)
    whole = whole_prompts(prompts, finals, 200, 16384)
    cached = whole.with_prefill_work([measured(9.0, 8000, 6400, 8192)], ENGINE)
    options = PlanOptions(boundaries=(2048,))
    long_stage, less = (
        solve(traffic, ENGINE, 16, options=options).partition.instances[1]
        for traffic in (whole, cached)
    )
    assert less < long_stage
