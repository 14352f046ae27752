"""The planner bench, small."""

import json
from pathlib import Path

import pytest

from e2e.bench.planner_bench import budgets
from e2e.bench.planner_bench.__main__ import INSTANCES, main

SMALL = ["--repeat", "2", "--instances", "2", "100"]


@pytest.fixture
def generous(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Budgets that no machine exceeds."""
    file = tmp_path / "budgets.json"
    file.write_text(json.dumps({"medianMs": {"2": 1e6, "100": 1e6}}))
    monkeypatch.setattr(budgets, "FILE", file)
    return file


def test_figures_go_to_a_file_and_a_table_to_stdout(
    generous: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*SMALL, "--json", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert generous.exists()
    assert set(figures["medianMs"]) == {"2", "100"}
    assert all(0 < ms < 1e6 for ms in figures["medianMs"].values())
    assert [(row["instances"], row["trace"]) for row in figures["rows"]] == [
        (2, "azure"),
        (2, "mooncake"),
        (100, "azure"),
        (100, "mooncake"),
    ]
    for row in figures["rows"]:
        assert row["solver"] in ("min-plus", "price search")
        assert row["price_gap_percent"] == pytest.approx(0, abs=1e-6)
        assert 0 <= row["gap_bound_percent"] < 0.1
        assert row["median_ms"] <= row["p95_ms"]
    printed = capsys.readouterr().out
    assert "mooncake" in printed
    assert "min-plus" in printed


def test_figures_can_have_stdout_to_themselves(
    generous: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--repeat", "1", "--instances", "2", "--json", "-"]) == 0
    assert set(json.loads(capsys.readouterr().out)["medianMs"]) == {"2"}
    assert generous.exists()


def test_an_exceeded_budget_is_named_and_fails(
    generous: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generous.write_text(json.dumps({"medianMs": {"2": 1e-6, "100": 1e6}}))
    assert main(SMALL) == 1
    errors = capsys.readouterr().err
    assert "over budget: a plan for 2 instances takes" in errors
    assert "plan for 100 instances" not in errors


def test_every_size_of_the_bench_has_a_budget() -> None:
    allowed = budgets.budgets()
    assert set(allowed) == set(INSTANCES)
    assert allowed[16] <= 10
    assert allowed[1024] <= 150
