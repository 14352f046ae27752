"""What was decided about the plan, and why. The last few decisions stand in the status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cascade_operator.finding import Finding
from cascade_operator.plans import PlanRecord
from cascade_operator.reasons import Reason
from cascade_operator.times import timestamp

Json = Mapping[str, Any]

KEPT_DECISIONS: Final = 5
"""Enough to see a plan adopted, judged and returned; few enough to be read as they stand."""
_MESSAGE_LIMIT: Final = 1024


class Verdict(StrEnum):
    """What became of the plan in force."""

    ADOPTED = "Adopted"
    """Another one took its place, and instances move."""
    BOUNDARIES_CHANGED = "BoundariesChanged"
    """Another one took its place that differs in its ranges alone."""
    KEPT = "Kept"
    """It stays."""
    ADVISED = "Advised"
    """It stays, and another one is proposed."""
    RETURNED = "Returned"
    """The one before took its place again, because requests were worse off."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The plan in force, the one to show, and what to say about it."""

    plan: PlanRecord
    shown: PlanRecord
    finding: Finding
    event: Finding | None = None
    record: "DecisionRecord | None" = None


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """A decision as the status keeps it, made at `time` (unix seconds).

    `plan` is the id of the plan that it led to, or that it proposes.
    """

    time: float
    verdict: Verdict
    reason: Reason
    message: str
    plan: str
    predicted_gain_percent: float | None = None
    """What the plan was predicted to save against the one in force, None where nothing was."""
    measured_e2e_ms: float | None = None
    """Mean end-to-end time of the requests in the window before the decision."""
    predicted_e2e_ms: float | None = None
    """The same under `plan`, as the cost model has it for the traffic of that window; in a review
    that keeps `plan`, under the plan before it."""
    worth_before: float | None = None
    """Of a review: measured over predicted time with the plan before, before the change."""
    worth_after: float | None = None
    """The same after it."""

    def repeats(self, entry: Json) -> bool:
        """Whether `entry` of a status says the same: numbers and words may differ."""
        same = (str(self.verdict), str(self.reason), self.plan)
        return same == tuple(entry.get(key) for key in ("verdict", "reason", "plan"))

    def render(self) -> dict[str, Any]:
        """The entry of the status."""
        numbers = {
            "predictedGainPercent": self.predicted_gain_percent,
            "measuredEndToEndMs": self.measured_e2e_ms,
            "predictedEndToEndMs": self.predicted_e2e_ms,
        }
        ratios = {"worthBefore": self.worth_before, "worthAfter": self.worth_after}
        return {
            "time": timestamp(self.time),
            "verdict": str(self.verdict),
            "reason": str(self.reason),
            "message": self.message[:_MESSAGE_LIMIT],
            "plan": self.plan,
            **{key: round(value, 1) for key, value in numbers.items() if value is not None},
            **{key: round(value, 3) for key, value in ratios.items() if value is not None},
        }


def change_of(former: PlanRecord, plan: PlanRecord) -> tuple[Verdict, Reason]:
    """The verdict and the reason of the event that `plan` takes the place of `former`."""
    if plan.counts != former.counts:
        return Verdict.ADOPTED, Reason.PLAN_ADOPTED
    return Verdict.BOUNDARIES_CHANGED, Reason.BOUNDARIES_CHANGED


def remember(before: Sequence[Json], decision: DecisionRecord | None) -> list[dict[str, Any]]:
    """The decisions of a status, newest first, with `decision` unless it repeats the newest.

    A further step of the fast loop takes the place of the one before: they may come each minute,
    and would leave room for nothing else.
    """
    entries = [dict(entry) for entry in before]
    if decision is not None and not (entries and decision.repeats(entries[0])):
        entry = decision.render()
        replaced = steps_before(entries, decision)
        if replaced:
            last = entries[replaced - 1]
            entry["steps"] = last.get("steps", 1) + 1
            entry["since"] = last.get("since", last["time"])
        entries = [entry, *entries[replaced:]]
    return entries[:KEPT_DECISIONS]


def steps_before(entries: Sequence[Json], decision: DecisionRecord | None) -> int:
    """How many of the newest entries tell of the steps that `decision` goes on with, if it is one:
    the steps themselves, and that the plan was kept since.
    """
    if decision is None or decision.reason is not Reason.TRAFFIC_SHIFTED:
        return 0
    for index, entry in enumerate(entries):
        if entry.get("reason") == Reason.TRAFFIC_SHIFTED:
            return index + 1
        if entry.get("verdict") != Verdict.KEPT or entry.get("reason") in _TRIED:
            return 0
    return 0


_TRIED: Final = (Reason.LATENCY_NO_WORSE,)
"""Kept, and a decision of its own: it is not forgotten for a step."""
