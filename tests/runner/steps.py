"""The steps of a whole check, cheapest first. What a step needs, its tests find, or skip aloud."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Step:
    """One command. `tests` marks those that pytest runs, whose counts add up at the end."""

    name: str
    what: str
    command: tuple[str, ...]
    tests: bool = False
    is_long: bool = False
    """Whether --quick leaves it out."""
    by_name_only: bool = False
    """Whether it runs only where it is asked for."""


def _pytest(*arguments: str) -> tuple[str, ...]:
    return ("pytest", "-q", "--durations=3", "--continue-on-collection-errors", *arguments)


STEPS: Final = (
    Step("format", "every file is formatted", ("ruff", "format", "--check", ".")),
    Step("lint", "no finding of the linter", ("ruff", "check", ".")),
    Step("types", "types are complete and fit", ("mypy",)),
    Step("imports", "packages import only what they may", ("lint-imports",)),
    Step(
        "unit",
        "unit, property and contract tests",
        _pytest("tests", "--ignore=tests/charts", "-m", "not api_server and not cluster"),
        tests=True,
    ),
    Step(
        "charts",
        "the chart renders as it should, and refuses what cannot work",
        _pytest("tests/charts", "-m", "not api_server and not cluster"),
        tests=True,
    ),
    Step(
        "api-server",
        "control-plane tests on a real API server",
        _pytest("tests", "-m", "api_server"),
        tests=True,
    ),
    Step(
        "vllm",
        "routers before real vLLM engines, on the CPU",
        _pytest("e2e/vllm_engine"),
        tests=True,
        is_long=True,
        # The engine is six gigabytes, and takes five minutes.
        by_name_only=True,
    ),
    Step(
        "e2e",
        "the stories, on a real cluster",
        _pytest("e2e/scenarios"),
        tests=True,
        is_long=True,
    ),
)


class UnknownStep(ValueError):
    """A step was named that does not exist."""


def choose(names: list[str], quick: bool, expression: str | None) -> tuple[Step, ...]:
    """The steps to run. An expression selects tests, so it leaves the other steps out.

    Raises UnknownStep.
    """
    known = {step.name for step in STEPS}
    for name in names:
        if name not in known:
            raise UnknownStep(f"no step {name!r}; there are: {', '.join(s.name for s in STEPS)}")
    return tuple(
        step
        for step in STEPS
        if (step.name in names or not (names or step.by_name_only))
        and not (quick and step.is_long)
        and (step.tests or expression is None)
    )


def left_out(names: Sequence[str], quick: bool) -> Iterator[str]:
    """What does not run, of all or of what was asked for, and why."""
    for step in STEPS:
        if names and step.name not in names:
            continue
        if step.by_name_only and not names:
            yield f"{step.name} ({step.what}), which runs by name only: tests/run {step.name}"
        elif quick and step.is_long:
            yield f"{step.name} ({step.what}), by --quick"
