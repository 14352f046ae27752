"""Plans of known traffic: their limits, what binds, their reasons, and the time they take."""

import time
from dataclasses import replace

import pytest

from cascade_planner.explain import explain
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import (
    ALL_BOUNDS,
    Binding,
    PlanOptions,
    one_stage_plan,
    solve,
)
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from tests.planner.conftest import TrafficAt

H100 = profile("h100-8b")
SIMULATED = profile("simulated")
MAX_LENGTH = 16384


def test_lengths_without_traffic_get_no_stage_of_their_own(chat_at: TrafficAt) -> None:
    traffic = chat_at(8, 131072)
    plan = solve(traffic, SIMULATED, 8, options=PlanOptions(bucket_ratio=ALL_BOUNDS))
    assert len(plan.stages) > 1
    assert plan.stages[-1].max_length == 131072
    assert plan.stages[-1].min_length < traffic.summary.final_p95 * 2


def test_plan_before_any_traffic_is_one_stage() -> None:
    plan = one_stage_plan(MAX_LENGTH, 8)
    assert plan.partition == Partition((MAX_LENGTH,), (8,))
    assert plan.id == Partition((MAX_LENGTH,), (8,)).id
    assert explain(plan) == (
        "1 stage (up to 16384 tokens on 8 instances). No traffic is known, so nothing is predicted."
    )


@pytest.mark.parametrize(
    ("options", "instances", "ends", "binding"),
    [
        pytest.param(
            PlanOptions(), 1, (16384,), Binding.INSTANCES, id="one instance makes one stage"
        ),
        pytest.param(
            PlanOptions(max_stages=1), 8, (16384,), None, id="maxStages 1 makes one stage"
        ),
        pytest.param(
            PlanOptions(max_stages=2), 8, None, Binding.MAX_STAGES, id="maxStages can bind"
        ),
        pytest.param(
            PlanOptions(boundaries=(1000, 3000)),
            8,
            (1000, 3000, 16384),
            Binding.FIXED_BOUNDARIES,
            id="boundaries set by hand stay as they are",
        ),
        pytest.param(
            PlanOptions(boundaries=(3000, 1000, 1000, 0, 99999), max_stages=2),
            8,
            (1000, 3000, 16384),
            Binding.FIXED_BOUNDARIES,
            id="boundaries that mean nothing are left out and maxStages yields to the rest",
        ),
        pytest.param(
            PlanOptions(boundaries=()),
            8,
            (16384,),
            Binding.FIXED_BOUNDARIES,
            id="no boundary, set by hand, makes one stage",
        ),
    ],
)
def test_limits_are_kept(
    chat_at: TrafficAt,
    options: PlanOptions,
    instances: int,
    ends: tuple[int, ...] | None,
    binding: Binding | None,
) -> None:
    plan = solve(chat_at(8, MAX_LENGTH), SIMULATED, instances, options=options)
    assert plan.partition.total == instances
    if ends is not None:
        assert plan.partition.ends == ends
    if binding is not None:
        assert binding in plan.binding


def test_more_fixed_stages_than_instances_keeps_the_best_of_the_boundaries(
    chat_at: TrafficAt,
) -> None:
    options = PlanOptions(boundaries=(500, 1000, 2000, 4000))
    plan = solve(chat_at(3, MAX_LENGTH), SIMULATED, 3, options=options)
    assert plan.partition.instances == (1, 1, 1)
    assert set(plan.partition.ends) < {500, 1000, 2000, 4000, MAX_LENGTH}
    assert Binding.INSTANCES in plan.binding


@pytest.mark.parametrize(
    ("engine", "rate", "objective", "binding"),
    [
        pytest.param(SIMULATED, 40, Objective(), Binding.STABILITY, id="too much work"),
        pytest.param(
            replace(SIMULATED, kv_capacity_tokens=3000),
            8,
            Objective(),
            Binding.KV_CAPACITY,
            id="too small a KV cache",
        ),
        pytest.param(
            replace(SIMULATED, max_sequences=2),
            8,
            Objective(),
            Binding.MAX_SEQUENCES,
            id="too few sequences",
        ),
        pytest.param(
            SIMULATED,
            8,
            Objective(ttft_target_ms=100),
            Binding.TIME_TO_FIRST_TOKEN,
            id="a first token that cannot be so early",
        ),
        pytest.param(
            SIMULATED,
            8,
            Objective(tpot_target_ms=16),
            Binding.TIME_PER_OUTPUT_TOKEN,
            id="a step that cannot be so short",
        ),
    ],
)
def test_what_binds_is_named_and_explained(
    chat_at: TrafficAt,
    engine: EngineModel,
    rate: float,
    objective: Objective,
    binding: Binding,
) -> None:
    plan = solve(chat_at(rate, MAX_LENGTH), engine, 8, objective)
    assert binding in plan.binding
    assert "What binds: " in explain(plan)


def test_the_plan_carries_its_reasons(chat_at: TrafficAt) -> None:
    plan = solve(chat_at(8, MAX_LENGTH), SIMULATED, 8)
    assert plan.forecast is not None
    assert plan.one_stage_forecast is not None
    assert plan.runner_up is not None
    assert [len(one.partition.ends) for one in plan.best_by_stage_count] == list(range(1, 9))
    assert plan.cost == min(one.cost for one in plan.best_by_stage_count)
    assert plan.runner_up.cost >= plan.cost
    assert plan.gain_percent == pytest.approx(100 * (1 - plan.cost / plan.one_stage_cost))
    assert plan.forecast.e2e_ms < plan.one_stage_forecast.e2e_ms
    text = explain(plan)
    assert f"{len(plan.stages)} stages" in text
    assert f"{plan.gain_percent:.1f} % lower" in text
    assert "Runner-up" in text


def test_uneven_overload_is_spread_and_no_stage_is_given_up(azure_at: TrafficAt) -> None:
    """Near the stability limit no stage may be overloaded for the others' sake."""
    for rate in (350, 380, 400, 420):  # one pool is stable up to 444
        plan = solve(azure_at(rate, 131072), H100, 16)
        assert plan.forecast is not None
        assert plan.forecast.load < 0.98


@pytest.mark.parametrize("rate", [7, 8, 10, 12])
def test_simulated_profile_rewards_stages_for_azure_traffic(
    azure_at: TrafficAt, rate: float
) -> None:
    plan = solve(azure_at(rate, MAX_LENGTH), SIMULATED, 8)
    assert plan.forecast is not None
    assert len(plan.stages) >= 2
    assert plan.gain_percent > 5
    assert plan.forecast.load < 0.9


@pytest.mark.parametrize(
    ("instances", "budget_seconds"),
    [
        # Measured: 2.5 and 15 ms.
        pytest.param(16, 0.05, id="16 instances within 50 ms"),
        pytest.param(1024, 0.15, id="1,024 instances within 150 ms"),
    ],
)
def test_a_plan_takes(azure_at: TrafficAt, instances: int, budget_seconds: float) -> None:
    traffic = azure_at(20 * instances, 131072)
    spent = []
    for _ in range(3):
        start = time.process_time()
        solve(traffic, H100, instances)
        spent.append(time.process_time() - start)
    assert min(spent) < budget_seconds
