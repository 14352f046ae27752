"""The bench of the simulator's speed, in small."""

from e2e.bench.simulator_bench import BUDGET_SECONDS, run_seconds


def test_a_run_takes_time_and_stays_within_the_budget() -> None:
    assert 0 < run_seconds("azure", "cascade+handover", 300) < BUDGET_SECONDS
