"""The closing lines tell the truth: they are what CI and people act on."""

from collections import Counter
from pathlib import Path

import pytest

from tests.runner import totals
from tests.runner.steps import STEPS, UnknownStep, choose, left_out
from tests.runner.summary import Outcome, Result, closing_lines, exit_status, judge
from tests.runner.totals import Totals

JUNIT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest" errors="1" failures="1" skipped="2" tests="6">
  <testcase name="a"/><testcase name="b"/>
  <testcase name="c"><failure message="no"/></testcase>
  <testcase name="d"><error message="fixture"/></testcase>
  <testcase name="e"><skipped message="no helm"/></testcase>
  <testcase name="f"><skipped message="no helm"/></testcase>
</testsuite></testsuites>"""


def test_errors_count_as_failures_and_skips_keep_their_reason(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(JUNIT)
    assert totals.read(report) == Totals(2, 2, 2, Counter({"no helm": 2}))


def test_a_pytest_that_never_wrote_its_report_counts_nothing(tmp_path: Path) -> None:
    assert totals.read(tmp_path / "missing.xml") == Totals()


@pytest.mark.parametrize(
    ("status", "counted", "by_expression", "want"),
    [
        pytest.param(0, Totals(3, 0, 1), False, Result.PASSED, id="some passed, some skipped"),
        pytest.param(0, Totals(0, 0, 4), False, Result.SKIPPED, id="all were skipped"),
        pytest.param(0, Totals(), False, Result.PASSED, id="a step without tests"),
        pytest.param(1, Totals(3, 1, 0), False, Result.FAILED, id="a test failed"),
        pytest.param(2, Totals(), False, Result.FAILED, id="pytest broke off"),
        pytest.param(5, Totals(), False, Result.FAILED, id="a step lost its tests"),
        pytest.param(5, Totals(), True, Result.SKIPPED, id="an expression matches nothing here"),
    ],
)
def test_the_result_of_a_step(
    status: int, counted: Totals, by_expression: bool, want: Result
) -> None:
    assert judge("step", status, 1.0, counted, by_expression).result is want


def test_the_closing_lines_name_each_step_each_reason_and_end_with_the_sum() -> None:
    outcomes = [
        Outcome("lint", Result.PASSED, 0.44),
        Outcome("unit", Result.FAILED, 12.0, Totals(10, 1, 0)),
        Outcome("charts", Result.SKIPPED, 1.0, Totals(0, 0, 2, Counter({"no helm": 2}))),
    ]
    assert closing_lines(outcomes, ["e2e, by --quick"]) == [
        "step        result     seconds  tests",
        "lint        passed         0.4",
        "unit        failed        12.0  10 passed, 1 failed, 0 skipped",
        "charts      skipped        1.0  0 passed, 0 failed, 2 skipped",
        "skipped in charts: 2 x no helm",
        "left out: e2e, by --quick",
        "10 passed, 1 failed, 2 skipped",
    ]
    assert exit_status(outcomes) == 1
    assert exit_status(outcomes[::2]) == 0


@pytest.mark.parametrize(
    ("names", "quick", "want"),
    [
        pytest.param([], False, ["vllm"], id="a whole check leaves out real engines alone"),
        pytest.param([], True, ["vllm", "e2e"], id="a quick one the cluster as well"),
        pytest.param(["e2e", "unit"], False, [], id="what was not asked for is not missed"),
        pytest.param(["e2e", "unit"], True, ["e2e"], id="a quick one may leave out what was asked"),
    ],
)
def test_what_takes_long_or_is_by_name_only_is_left_out_aloud(
    names: list[str], quick: bool, want: list[str]
) -> None:
    chosen = [step.name for step in choose(names, quick=quick, expression=None)]
    assert [words.split()[0] for words in left_out(names, quick)] == want
    assert sorted([*chosen, *want]) == sorted(names or [step.name for step in STEPS])


def test_what_is_by_name_only_runs_by_its_name() -> None:
    assert [step.name for step in choose(["vllm"], quick=False, expression=None)] == ["vllm"]


def test_an_expression_leaves_only_steps_with_tests() -> None:
    assert all(step.tests for step in choose([], quick=False, expression="x"))


def test_a_step_that_does_not_exist_is_refused_with_the_list() -> None:
    with pytest.raises(UnknownStep, match="no step 'e3e'; there are: format, lint"):
        choose(["e3e"], quick=False, expression=None)
