"""What the operator is held to at scale, judged on a run's outcomes. Pure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from e2e.bench.goal import Goal
from e2e.bench.operator_bench.figures import Outcome, quantile_ms, together

PASS_P99_MS: Final = 250.0
RSS_MB: Final = 250.0
PLACE_SECONDS: Final = 60.0
LARGE: Final = "large"
FLEET: Final = "fleet"
SETTLED: Final = "settled"
START: Final = "start"
REST: Final = "rest"
REPLAN: Final = "replan"


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The figures for programs; those of experiments that did not run are left out."""
    result: dict[str, Any] = {}
    by_name = {one.name: one for one in outcomes}
    if (large := by_name.get(LARGE)) is not None:
        after_start = [phase for phase in large.phases if phase.name != START]
        result["passMsP99"] = quantile_ms(together(after_start), 0.99)
        result["placeSeconds"] = large.place_seconds
    result["rssMb"] = max(phase.peak_mb for one in outcomes for phase in one.phases)
    rests = [phase for one in outcomes if (phase := one.phase(REST)) is not None]
    if rests:
        result["settledWrites"] = sum(phase.writes + phase.written for phase in rests)
    settled = by_name.get(SETTLED)
    rest = settled.phase(REST) if settled is not None else None
    if rest is not None:
        result["settledRequestsPerMinute"] = round(rest.all_requests_per_minute, 1)
    result["endedPods"] = sum(one.ended for one in outcomes)
    result["failedPasses"] = sum(phase.failed for one in outcomes for phase in one.phases)
    result["experiments"] = [_plain(one) for one in outcomes]
    return result


def judged(found: dict[str, Any]) -> list[Goal]:
    """The goals that the figures can tell of."""
    goals = []
    for key, what, limit, unit in (
        ("passMsP99", "p99 of the passes of the large service, once started", PASS_P99_MS, "ms"),
        ("rssMb", "most memory of the operator (RSS)", RSS_MB, "MB"),
        ("placeSeconds", "from a new plan to all pods placed", PLACE_SECONDS, "s"),
        ("settledWrites", "writes while settled", 0, ""),
        ("endedPods", "warm pods that ended", 0, ""),
    ):
        value = found.get(key)
        if value is not None:
            shown = f"{value:.0f} {unit}".strip()
            goals.append(Goal(what, shown, f"{limit:g} {unit}".strip(), value <= limit))
    return goals


def _plain(one: Outcome) -> dict[str, Any]:
    plain = asdict(one)
    for phase in plain["phases"]:
        del phase["pass_counts"]
    return plain
