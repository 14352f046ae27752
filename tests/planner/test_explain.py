"""Plans in sentences, and all that a plan says of itself."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from cascade_planner.explain import explain
from cascade_planner.forecast import Forecast
from cascade_planner.objective import Crossing
from cascade_planner.plan import Binding, Plan, PlannedStage, PlanOptions, one_stage_plan, solve
from tests.conftest import Golden
from tests.planner.conftest import H100_8B, TrafficAt, rate_of_load

GOLDEN = Path(__file__).parent / "golden"
COPY = PlanOptions(crossing=Crossing(copy_bytes_per_ms=25e6, fixed_ms=5))

LIGHT = Forecast(ttft_ms=100, tpot_ms=10, e2e_ms=3000, load=0.3, batch=5, kv_use=0.1)
HEAVY = Forecast(ttft_ms=3000, tpot_ms=200.0, e2e_ms=50_000, load=0.95, batch=64, kv_use=0.92)
PLAN = Plan(
    stages=(PlannedStage(0, 1024, 5, LIGHT), PlannedStage(1025, 16384, 3, HEAVY)),
    cost=50.0,
    one_stage_cost=60.0,
    gain_percent=100 / 6,
    forecast=LIGHT,
    one_stage_forecast=HEAVY,
)


def rounded(value: object) -> object:
    """Numbers to four digits: what a reader of the plan would compare."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


@pytest.mark.parametrize("trace", ["azure", "mooncake"])
def test_a_plan_tells_all_of_its_reasons(
    trace: str, azure_at: TrafficAt, mooncake_at: TrafficAt, golden: Golden
) -> None:
    at = {"azure": azure_at, "mooncake": mooncake_at}[trace]
    traffic = at(rate_of_load(at, H100_8B, 16, 0.5), 131072)
    plan = solve(traffic, H100_8B, 16, options=COPY)
    told = {"explanation": explain(plan), "plan": rounded(asdict(plan))}
    golden(GOLDEN / f"plan-{trace}.json", json.dumps(told, indent=1) + "\n")


@pytest.mark.parametrize(
    ("binding", "words"),
    [
        (Binding.STABILITY, "up to 16384 tokens is at load 0.95, without margin for a peak"),
        (Binding.KV_CAPACITY, "the KV cache of the stage up to 16384 tokens is 92 % full"),
        (Binding.MAX_SEQUENCES, "up to 16384 tokens runs 64 sequences in an instance"),
        (Binding.TIME_TO_FIRST_TOKEN, "the time-to-first-token target with 3000 ms"),
        (Binding.TIME_PER_OUTPUT_TOKEN, "the time-per-output-token target with 200.0 ms"),
        (Binding.MAX_STAGES, "maxStages allows no further stage (raise it)"),
        (Binding.INSTANCES, "every stage has one instance"),
        (Binding.FIXED_BOUNDARIES, "set by hand"),
    ],
)
def test_what_binds_is_said_with_its_stage_and_what_would_relax_it(
    binding: Binding, words: str
) -> None:
    text = explain(replace(PLAN, binding=(binding,)))
    assert "What binds: " in text
    assert words in text
    assert text.endswith(").")


@pytest.mark.parametrize(
    ("gap", "said"),
    [
        pytest.param(0.0, False, id="the best plan is not said to be near the best"),
        pytest.param(0.01, False, id="a difference that nobody can notice is not said"),
        pytest.param(1.25, True, id="a plan that may not be the best says so"),
    ],
)
def test_the_gap_to_the_best(gap: float, said: bool) -> None:
    text = explain(replace(PLAN, gap_percent=gap))
    assert ("The best there is may cost up to 1.2 % less." in text) is said


def test_without_traffic_nothing_is_predicted() -> None:
    assert explain(one_stage_plan(16384, 1)) == (
        "1 stage (up to 16384 tokens on 1 instance). No traffic is known, so nothing is predicted."
    )


def test_a_plan_worse_than_one_stage_says_so() -> None:
    worse = replace(PLAN, cost=66.0, gain_percent=-10.0)
    assert "10.0 % higher than with one stage" in explain(worse)
