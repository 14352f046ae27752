"""The closed form of a stage, against the same formulas written out for one stage."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.stage_cost import StageWork, delay_cost, missing_instances, settle
from cascade_policy.profiles import profile

ENGINE = replace(profile("h100-8b"), heterogeneity=0.25)


def work(
    arrivals: float = 0.1,
    prefill: float = 3.0,
    prefill_squared: float = 150.0,
    decode: float = 20.0,
    length: float = 1000.0,
    cv: float = 0.5,
    crossings: float = 0.0,
    recomputed: float = 0.0,
) -> StageWork:
    def one(value: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        return np.asarray([value])

    return StageWork(
        arrivals=one(arrivals),
        arrival_prefill=one(prefill),
        prefill=one(prefill + crossings * recomputed),
        prefill_squared=one(prefill_squared + crossings * recomputed**2),
        decode=one(decode),
        kv=one(decode * length),
        kv_squared=one(decode * length**2 * (1 + cv**2)),
        crossings=one(crossings),
        crossing_prefill=one(recomputed),
        crossing_copy=one(0.0),
    )


def test_a_stage_settles_where_littles_law_says() -> None:
    m = 8
    state = settle(work(), np.asarray([float(m)]), ENGINE)
    penalty = 1 + 0.25 * 0.5
    step = state.tpot[0]
    batch = 20.0 * step / m
    # In equilibrium a step holds its decodes and the prefill that arrived during it.
    decode_step = ENGINE.decode_ms(batch, batch * 1000, penalty)
    assert step == pytest.approx(decode_step + 3.0 / m * step)
    assert state.batch[0] == pytest.approx(batch)
    assert state.kv_use[0] == pytest.approx(batch * 1000 / 440_000)
    stretch = ENGINE.stretch(decode_step)
    use = 3.0 / m * stretch
    mean, square = 30.0 * stretch, 1500.0 * stretch**2
    wait = square / mean**2 / 2 * use ** (math.sqrt(2 * (m + 1)) - 1) / (m * (1 - use)) * mean
    assert state.ttft[0] == pytest.approx(wait + mean + decode_step / 2)
    chunk = ENGINE.chunk_tokens * ENGINE.prefill_ms_per_token
    decoding = 20.0 * ENGINE.sequence_ms(1000, penalty) / m
    assert state.load[0] == pytest.approx(decoding + 3.0 / m * (1 + ENGINE.base_ms / chunk))


def test_steps_never_exceed_full_chunks() -> None:
    busy = settle(work(prefill=7.5, decode=1.0), np.asarray([8.0]), ENGINE)
    chunk = ENGINE.chunk_tokens * ENGINE.prefill_ms_per_token
    assert busy.tpot[0] == pytest.approx(ENGINE.base_ms + chunk, rel=0.02)


def test_a_recomputed_crossing_costs_its_stretched_prefill_and_a_copied_one_its_transfer() -> None:
    m = np.asarray([8.0])
    moved = work(crossings=0.01, recomputed=70.0)
    state = settle(moved, m, ENGINE)
    stretch = ENGINE.stretch(float(state.decode_step[0]))
    own = 3.0 / 0.1 * stretch
    wait = state.ttft[0] - own - state.decode_step[0] / 2
    assert wait > 0
    assert state.crossing[0] == pytest.approx(wait + 70 * stretch)
    assert settle(work(crossings=0.01, recomputed=0.0), m, ENGINE).crossing[0] == 0
    assert state.load[0] > settle(work(), m, ENGINE).load[0]
    copy = Crossing(copy_bytes_per_ms=25e6, fixed_ms=5.0)
    assert copy.copy_ms(np.asarray([4000.0]), ENGINE)[0] == pytest.approx(5 + 4000 * 131072 / 25e6)
    assert RECOMPUTE.copy_ms(np.asarray([4000.0]), ENGINE)[0] == 5


def test_delay_beyond_a_target_costs_double() -> None:
    m = np.asarray([8.0])
    state = settle(work(), m, ENGINE)
    ttft, tpot = float(state.ttft[0]), float(state.tpot[0])
    relaxed = Objective(alpha=5, ttft_target_ms=ttft, tpot_target_ms=tpot)
    strict = Objective(alpha=5, ttft_target_ms=ttft / 2, tpot_target_ms=tpot / 2)
    base = 5 * 0.1 * ttft + 20.0 * tpot
    assert delay_cost(work(), state, relaxed)[0] == pytest.approx(base)
    assert delay_cost(work(), state, strict)[0] == pytest.approx(1.5 * base)


@given(
    st.floats(0, 10),
    st.floats(0, 100),
    st.floats(0, 1000),
    st.floats(1, 100_000),
    st.integers(1, 300),
)
def test_one_instance_more_never_hurts_and_everything_stays_finite(
    arrivals: float, mean: float, decode: float, length: float, instances: int
) -> None:
    stage = work(arrivals, arrivals * mean, 2 * arrivals * mean**2, decode, length)
    m = np.asarray([float(instances), instances + 1.0])
    state = settle(stage, m, ENGINE)
    for values in (
        delay_cost(stage, state, Objective()),
        missing_instances(state, m),
        state.tpot,
        state.ttft,
        state.load,
        state.kv_use,
    ):
        assert np.isfinite(values).all()
        assert values[1] <= values[0] * (1 + 1e-9)


def test_what_fits_misses_nothing_and_what_does_not_is_spread() -> None:
    light = settle(work(), np.asarray([8.0]), ENGINE)
    assert missing_instances(light, np.asarray([8.0]))[0] == 0
    over = settle(work(prefill=20.0), np.asarray([8.0]), ENGINE)
    more_over = settle(work(prefill=30.0), np.asarray([8.0]), ENGINE)
    m = np.asarray([8.0])
    first, second = missing_instances(over, m)[0], missing_instances(more_over, m)[0]
    middle = missing_instances(settle(work(prefill=25.0), m, ENGINE), m)[0]
    assert first > 8
    assert middle < (first + second) / 2


def test_twice_the_rates_are_twice_the_work_of_the_same_sequences() -> None:
    once = work(crossings=0.01, recomputed=70.0)
    twice = once.times(2.0)
    for name in ("arrivals", "prefill", "prefill_squared", "decode", "kv", "crossings"):
        assert getattr(twice, name)[0] == 2 * getattr(once, name)[0]
    assert twice.crossing_prefill[0] == once.crossing_prefill[0]
    m = np.asarray([8.0])
    assert settle(twice, m, ENGINE).load[0] == pytest.approx(2 * settle(once, m, ENGINE).load[0])


def test_a_stage_without_traffic_costs_nothing() -> None:
    idle = work(arrivals=0.0, prefill=0.0, prefill_squared=0.0, decode=0.0)
    m = np.asarray([1.0])
    state = settle(idle, m, ENGINE)
    assert delay_cost(idle, state, Objective())[0] == 0
    assert missing_instances(state, m)[0] == 0
    assert state.tpot[0] == pytest.approx(ENGINE.base_ms)
