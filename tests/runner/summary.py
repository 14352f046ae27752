"""How a run ends: one outcome per step, and the closing lines that people and scripts read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.runner.totals import Totals

PYTEST_FOUND_NO_TESTS = 5


class Result(StrEnum):
    """What became of a step."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Outcome:
    """One step after its run."""

    step: str
    result: Result
    seconds: float
    totals: Totals = field(default_factory=Totals)
    note: str = ""


def judge(
    step: str, status: int, seconds: float, totals: Totals, selected_by_expression: bool
) -> Outcome:
    """The outcome of a step that ended with exit status `status`."""
    if status == PYTEST_FOUND_NO_TESTS:
        if selected_by_expression:
            return Outcome(
                step, Result.SKIPPED, seconds, totals, "no test here matches the expression"
            )
        return Outcome(step, Result.FAILED, seconds, totals, "no tests were found")
    if status != 0:
        return Outcome(step, Result.FAILED, seconds, totals)
    if totals.skipped and not totals.passed:
        return Outcome(step, Result.SKIPPED, seconds, totals)
    return Outcome(step, Result.PASSED, seconds, totals)


def closing_lines(outcomes: Sequence[Outcome], left_out: Sequence[str]) -> list[str]:
    """The table of steps, everything that was skipped with its reason, and the sum of all tests."""
    lines = [f"{'step':<12}{'result':<10}{'seconds':>8}  tests"]
    for outcome in outcomes:
        counted = str(outcome.totals) if outcome.totals != Totals() else ""
        detail = ", ".join(part for part in (counted, outcome.note) if part)
        lines.append(
            f"{outcome.step:<12}{outcome.result:<10}{outcome.seconds:>8.1f}  {detail}".rstrip()
        )
    for outcome in outcomes:
        for reason, count in sorted(outcome.totals.reasons.items()):
            lines.append(f"skipped in {outcome.step}: {count} x {reason}")
    lines.extend(f"left out: {reason}" for reason in left_out)
    lines.append(str(sum((outcome.totals for outcome in outcomes), Totals())))
    return lines


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """1 if any step failed."""
    return int(any(outcome.result is Result.FAILED for outcome in outcomes))
