"""What holds for every scheduler, and what the steps to SCLS give."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade_simulator.static_batching.engine import DEEPSPEED, TRANSFORMERS, BatchEngine
from cascade_simulator.static_batching.schedulers import (
    SCHEDULERS,
    Setting,
    UnknownScheduler,
    simulate,
)
from cascade_simulator.static_batching.workloads import CODE_ASSISTANT, drawn, sampled
from cascade_simulator.workload import Request, Workload

NAMES = sorted(SCHEDULERS)
ROWS = st.lists(
    st.tuples(st.floats(0, 20_000), st.integers(1, 1024), st.integers(1, 1024)),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def busy() -> Workload:
    """More than two instances can serve."""
    return drawn("code", CODE_ASSISTANT, 600, 20.0, np.random.default_rng(3))


@given(st.sampled_from(NAMES), ROWS, st.integers(1, 3), st.sampled_from((32, 128, 1000)))
@settings(max_examples=150, deadline=None)
def test_every_request_gets_exactly_its_tokens_within_the_memory(
    name: str, rows: list[tuple[float, int, int]], instances: int, slice_tokens: int
) -> None:
    requests = tuple(Request(*row) for row in sorted(rows))
    engine = replace(DEEPSPEED, kv_capacity_tokens=5000)
    setting = Setting(engine=engine, instances=instances, slice_tokens=slice_tokens)
    outcome = simulate(name, Workload("drawn", requests), setting)
    assert outcome.emitted.tolist() == [request.output for request in requests]
    assert outcome.counters.valid == outcome.emitted.sum()
    assert outcome.counters.peak_kv_tokens <= 0.9 * 5000
    assert (outcome.response_ms > 0.999 * outcome.emitted * engine.floor_ms).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_workload_gives_the_same_outcome(name: str, busy: Workload) -> None:
    first, second = (simulate(name, busy, Setting(instances=2)) for _ in range(2))
    assert first.end_ms.tolist() == second.end_ms.tolist()
    assert first.counters == second.counters


@pytest.mark.parametrize("engine", [DEEPSPEED, TRANSFORMERS], ids=lambda engine: engine.name)
def test_each_step_to_scls_raises_the_throughput(engine: BatchEngine, busy: Workload) -> None:
    setting = Setting(engine=engine, instances=2)
    sls, so, pm, ab = (
        simulate(name, busy, setting).requests_per_second for name in ("SLS", "SO", "PM", "AB")
    )
    assert sls < so < pm < ab


def test_slices_trade_invalid_tokens_for_repeated_prefill(busy: Workload) -> None:
    whole, sliced = (simulate(name, busy, Setting(instances=2)) for name in ("SLS", "SCLS"))
    assert sliced.counters.invalid < 0.2 * whole.counters.invalid
    assert sliced.counters.prefilled > whole.counters.prefilled


def test_a_batch_limit_holds_for_fixed_batches_and_for_continuous_ones(busy: Workload) -> None:
    cautious = Setting(instances=2, batch_limit=4)
    for name in ("SLS", "ILS", "SO", "PM"):
        assert simulate(name, busy, cautious).batch_size <= 4
    assert simulate("SCLS", busy, cautious).batch_size > 4


def test_the_safe_batch_is_what_fits_at_the_limits() -> None:
    # 90 % of 61,035 tokens, 2,048 for each sequence.
    assert Setting().safe_batch == 26


def test_an_unknown_scheduler_is_refused_with_the_known_ones(busy: Workload) -> None:
    with pytest.raises(UnknownScheduler, match="'FCFS' is not known; use one of SLS, ILS"):
        simulate("FCFS", busy, Setting())


def test_drawn_lengths_have_the_stated_means_and_limits() -> None:
    prompts, outputs = CODE_ASSISTANT.draw(20_000, np.random.default_rng(0))
    assert prompts.mean() == pytest.approx(355, rel=0.05)
    assert outputs.mean() == pytest.approx(205, rel=0.05)
    assert np.mean(outputs < 512) == pytest.approx(0.915, abs=0.01)
    for lengths in (prompts, outputs):
        assert lengths.min() >= 1
        assert lengths.max() == 1024


def test_sampled_pairs_stay_together_and_are_cut_off() -> None:
    pairs = [(10, 1), (5000, 700)]
    sample = sampled("trace", pairs, (1024, 512), 200, 10.0, np.random.default_rng(0))
    assert {(request.prompt, request.output) for request in sample.requests} == {
        (10, 1),
        (1024, 512),
    }
    assert sample.duration_ms == pytest.approx(20_000, rel=0.25)
