"""Step times and gains of one H100 that serves an 8B model, on both traces.

The reference is a discrete-event simulation of 16 instances on stationary traffic of the two
traces, and an earlier closed form that was checked against it. Mean end-to-end time alone counts
(alpha = beta = 1, no safety, no targets), and KV caches are copied over 25 GB/s.
"""

import pytest

from cascade_planner.objective import Crossing, Objective
from cascade_planner.partition import Partition
from cascade_planner.plan import ALL_BOUNDS, PlanOptions, solve
from cascade_planner.pricing import Pricing
from tests.planner.conftest import H100_8B, TrafficAt, rate_of_load

MAX_LENGTH = 131072
POOL = Partition((MAX_LENGTH,), (16,))
MEAN_TIME = Objective(alpha=1, beta=1, safety=1, slo_weight=0)
COPY = Crossing(copy_bytes_per_ms=25e6)


@pytest.fixture(params=["azure", "mooncake"])
def trace(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def at(trace: str, azure_at: TrafficAt, mooncake_at: TrafficAt) -> TrafficAt:
    return {"azure": azure_at, "mooncake": mooncake_at}[trace]


STEP_MS = {
    # load: (closed form, simulation)
    "azure": {0.3: (10.7, 10.4), 0.5: (14.0, 13.5), 0.7: (20.4, 19.4), 0.85: (30.7, 31.4)},
    "mooncake": {0.3: (10.7, 10.2), 0.5: (14.0, 13.8), 0.7: (20.1, 20.3), 0.85: (30.1, 31.0)},
}


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.85])
def test_the_step_time_of_one_pool(trace: str, at: TrafficAt, load: float) -> None:
    """Within 3 % of the reference's closed form, and within 6 % of the simulation."""
    traffic = at(rate_of_load(at, H100_8B, 16, load), MAX_LENGTH)
    _, state = Pricing(traffic, H100_8B, MEAN_TIME, COPY).forecast(POOL)
    closed_form, simulated = STEP_MS[trace][load]
    assert state.load[0] == pytest.approx(load)
    assert state.tpot[0] == pytest.approx(closed_form, rel=0.03)
    assert state.tpot[0] == pytest.approx(simulated, rel=0.06)


RELATIVE_COST = {
    # load: best cost over one pool's by the closed form on single requests, cuts at ratio sqrt 2
    "azure": {0.3: 0.963, 0.5: 0.941, 0.7: 0.920, 0.85: 0.947},
    "mooncake": {0.3: 0.935, 0.5: 0.892, 0.7: 0.847, 0.85: 0.861},
}


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.85])
def test_the_gain_of_stages(trace: str, at: TrafficAt, load: float) -> None:
    """Histograms instead of single requests change the relative cost by at most 0.02."""
    traffic = at(rate_of_load(at, H100_8B, 16, load), MAX_LENGTH)
    plan = solve(traffic, H100_8B, 16, MEAN_TIME, PlanOptions(crossing=COPY))
    assert plan.cost / plan.one_stage_cost == pytest.approx(RELATIVE_COST[trace][load], abs=0.02)


@pytest.mark.parametrize(
    ("load", "predicted", "simulated"),
    [
        pytest.param(0.7, {"azure": 0.95, "mooncake": 0.844}, {"azure": 0.97, "mooncake": 0.84}),
        pytest.param(0.85, {"azure": 0.93, "mooncake": 0.826}, {"azure": 0.92, "mooncake": 0.80}),
    ],
    ids=["at load 0.7", "at load 0.85"],
)
def test_the_gain_of_stages_as_it_was_simulated(
    trace: str,
    at: TrafficAt,
    load: float,
    predicted: dict[str, float],
    simulated: dict[str, float],
) -> None:
    """With cuts at every bound: within 0.04 of the reference, 0.06 of its simulation.

    Mooncake's differences are 0.00 and 0.01. Azure's are 0.03, better at 0.7 and worse at 0.85,
    where a stage gets a whole instance of 16 more or less: with 64 instances it is 0.91.
    """
    traffic = at(rate_of_load(at, H100_8B, 16, load), MAX_LENGTH)
    options = PlanOptions(crossing=COPY, bucket_ratio=ALL_BOUNDS)
    plan = solve(traffic, H100_8B, 16, MEAN_TIME, options)
    relative = plan.cost / plan.one_stage_cost
    assert relative == pytest.approx(predicted[trace], abs=0.04)
    assert relative == pytest.approx(simulated[trace], abs=0.06)


def test_the_cost_is_the_mean_end_to_end_time(at: TrafficAt) -> None:
    """By Little's law: cost over arrival rate."""
    rate = rate_of_load(at, H100_8B, 16, 0.7)
    plan = solve(at(rate, MAX_LENGTH), H100_8B, 16, MEAN_TIME, PlanOptions(crossing=COPY))
    assert plan.forecast is not None
    assert plan.forecast.e2e_ms == pytest.approx(plan.cost / rate * 1000, rel=1e-6)
