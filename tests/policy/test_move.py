"""What a hand-over costs by each transport."""

import pytest

from cascade_policy.load import IDLE, InstanceLoad
from cascade_policy.move import CAUTION, FIXED_MOVE_MS, move_ms
from cascade_policy.price import step_ms
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import COPY, RECOMPUTE, WARM, Handoff, Stage, StageMap

ENGINE = PROFILES["h100-8b"]
BUSY = InstanceLoad(20, 20_000, 20_000_000, 150.0, 0.5)


def test_a_copy_costs_the_time_of_its_bytes_however_busy_the_target_is() -> None:
    handoff = Handoff(transport=COPY, copy_bytes_per_ms=1e6)
    time = 4000 * ENGINE.kv_bytes_per_token / 1e6 + FIXED_MOVE_MS
    assert move_ms(BUSY, ENGINE, 4000, handoff) == move_ms(IDLE, ENGINE, 4000, handoff) == time


def test_warming_up_costs_the_batch_of_the_target_its_work_and_what_it_delays() -> None:
    work, busy = ENGINE.prefill_ms(4000), step_ms(BUSY, ENGINE) / ENGINE.base_ms
    expected = CAUTION * 20 * work * busy**2 + FIXED_MOVE_MS
    assert move_ms(BUSY, ENGINE, 4000, Handoff(transport=WARM)) == pytest.approx(expected)


def test_recomputing_costs_the_wait_of_the_sequence_as_well() -> None:
    warm = move_ms(BUSY, ENGINE, 4000, Handoff(transport=WARM))
    plain = move_ms(BUSY, ENGINE, 4000, Handoff(transport=RECOMPUTE))
    assert plain - warm > ENGINE.prefill_ms(4000) + BUSY.waiting_prefill_ms


def test_what_the_target_holds_is_not_computed_again() -> None:
    half = move_ms(BUSY, ENGINE, 4000, Handoff(transport=WARM), cached=2000)
    assert half < 0.6 * move_ms(BUSY, ENGINE, 4000, Handoff(transport=WARM))
    assert move_ms(BUSY, ENGINE, 4000, Handoff(transport=WARM), cached=9000) == FIXED_MOVE_MS


def test_a_stage_map_tells_routers_the_bandwidth_of_copies() -> None:
    stage_map = StageMap(
        plan_id="p",
        time="t",
        model="m",
        max_length=100,
        engine=ENGINE,
        stages=(Stage(0, 0, 100, "s"),),
        handoff=Handoff(transport=COPY, copy_bytes_per_ms=1e6),
    )
    assert StageMap.loads(stage_map.dumps()) == stage_map
