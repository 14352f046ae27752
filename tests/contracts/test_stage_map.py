"""The stage map is a contract between two programs of different versions."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_policy.engine_model import EngineModel
from cascade_policy.grid import length_grid
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import Boundaries, Handoff, InvalidStageMap, Stage, StageMap
from tests.conftest import Golden

GOLDEN = Path(__file__).parent / "golden"

EXAMPLE = StageMap(
    plan_id="3f2a9c51",
    time="2026-01-31T12:00:00Z",
    model="meta-llama/Llama-3.1-8B-Instruct",
    max_length=131072,
    engine=PROFILES["h100-8b"],
    stages=(
        Stage(0, 0, 1024, "llama-8b-stage-0"),
        Stage(1, 1025, 8192, "llama-8b-stage-1"),
        Stage(2, 8193, 131072, "llama-8b-stage-2"),
    ),
    expected_remaining=((1024, 210.5), (8192, 260.0), (131072, 180.25)),
    boundaries=Boundaries.SOFT,
    bias=0.05,
    handoff=Handoff(enabled=True, transport="recompute", slice_tokens=64),
    ttft_target_ms=2000.0,
    tpot_target_ms=100.0,
)


def wire(**changes: Any) -> str:
    return json.dumps({**json.loads(EXAMPLE.dumps()), **changes})


def test_the_wire_form_is_what_the_golden_file_holds(golden: Golden) -> None:
    text = json.dumps(json.loads(EXAMPLE.dumps()), indent=2, sort_keys=True) + "\n"
    golden(GOLDEN / "stagemap.json", text)


def test_the_golden_file_can_be_read() -> None:
    assert StageMap.loads((GOLDEN / "stagemap.json").read_text()) == EXAMPLE


def test_fields_of_a_newer_operator_are_ignored() -> None:
    data = json.loads(EXAMPLE.dumps())
    data["futureField"] = {"a": 1}
    data["engine"]["futureField"] = 1
    data["handoff"]["futureField"] = 1
    data["stages"][0]["futureField"] = 1
    assert StageMap.loads(json.dumps(data)) == EXAMPLE


@pytest.mark.parametrize("version", [0, 2, "1", None, [1]])
def test_another_format_version_is_refused(version: object) -> None:
    with pytest.raises(InvalidStageMap, match="format"):
        StageMap.loads(wire(formatVersion=version))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("[]", id="a list"),
        pytest.param("{", id="half a map"),
        pytest.param(wire(stages=[]), id="no stages"),
        pytest.param(wire(stages=[{"index": 0}]), id="a stage without a range"),
        pytest.param(wire(stages=7), id="a number for stages"),
        pytest.param(wire(maxLength=1), id="a maximum that is not where the last stage ends"),
        pytest.param(wire(maxLength=float("inf")), id="a maximum without end"),
        pytest.param(wire(bias=float("nan")), id="a bias that is no number"),
        pytest.param(wire(bias=10**400), id="a bias beyond all numbers"),
        pytest.param("[" * 100_000, id="lists without end"),
        pytest.param(wire(engine={}), id="an engine without coefficients"),
        pytest.param(wire(boundaries="wobbly"), id="an unknown kind of boundary"),
        pytest.param(wire(expectedRemaining=[{"length": 1}]), id="an expectation without tokens"),
    ],
)
def test_a_malformed_map_is_refused_with_the_contract_s_own_error(text: str) -> None:
    with pytest.raises(InvalidStageMap):
        StageMap.loads(text)


amounts = st.floats(0.0001, 1e6)
engines = st.builds(
    EngineModel,
    base_ms=amounts,
    per_sequence_ms=amounts,
    per_kv_token_ms=amounts,
    heterogeneity=amounts,
    prefill_ms_per_token=amounts,
    prefill_ms_per_token_squared=amounts,
    chunk_tokens=st.integers(1, 10**6),
    kv_capacity_tokens=st.integers(1, 10**9),
    max_sequences=st.integers(1, 10**5),
    block_tokens=st.integers(1, 1024),
    kv_bytes_per_token=st.integers(0, 10**7),
)


@st.composite
def stage_maps(draw: st.DrawFn) -> StageMap:
    max_length = draw(st.integers(64, 1_000_000))
    inner = draw(st.sets(st.sampled_from(length_grid(max_length)[:-1]), max_size=6))
    bounds = [*sorted(inner), max_length]
    starts = [0, *(bound + 1 for bound in bounds[:-1])]
    return StageMap(
        plan_id=draw(st.text(max_size=12)),
        time=draw(st.text(max_size=20)),
        model=draw(st.text(max_size=20)),
        max_length=max_length,
        engine=draw(engines),
        stages=tuple(
            Stage(index, start, end, f"s-{index}")
            for index, (start, end) in enumerate(zip(starts, bounds, strict=True))
        ),
        expected_remaining=tuple(
            sorted(draw(st.dictionaries(st.integers(1, max_length), amounts, max_size=8)).items())
        ),
        boundaries=draw(st.sampled_from(Boundaries)),
        bias=draw(st.floats(0, 10)),
        handoff=Handoff(draw(st.booleans()), draw(st.text(max_size=9)), draw(st.integers(1, 4096))),
        ttft_target_ms=draw(amounts),
        tpot_target_ms=draw(amounts),
    )


@given(stage_map=stage_maps())
def test_what_is_written_is_what_is_read(stage_map: StageMap) -> None:
    assert StageMap.loads(stage_map.dumps()) == stage_map


@given(stage_map=stage_maps(), length=st.integers(0, 1_500_000))
def test_every_length_has_the_stage_whose_range_holds_it(stage_map: StageMap, length: int) -> None:
    stage = stage_map.stages[stage_map.stage_of(length)]
    assert stage.min_length <= length
    assert length <= stage.max_length or stage.index == len(stage_map.stages) - 1


@pytest.mark.parametrize(
    ("length", "tokens"),
    [(1, 210.5), (1024, 210.5), (1025, 260.0), (131072, 180.25), (999_999, 180.25)],
)
def test_the_expectation_is_the_one_of_the_next_length_that_has_one(
    length: int, tokens: float
) -> None:
    assert EXAMPLE.remaining_at(length) == tokens


def test_equal_maps_have_equal_text() -> None:
    assert replace(EXAMPLE).dumps() == EXAMPLE.dumps()
