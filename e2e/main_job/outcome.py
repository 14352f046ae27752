"""What the demo found, and whether that is a success."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Phase:
    """One replay and the load client's own summary of it."""

    name: str
    summary: JsonObject

    def count(self, key: str) -> int:
        return int(self.summary[key])

    @property
    def latency(self) -> JsonObject:
        """{ttft, tpot, e2e} each {mean, p50, p90, p99} in ms, over completed requests."""
        found: JsonObject = self.summary["latency"]
        return found


@dataclass(frozen=True)
class Outcome:
    """Everything the last table and the JSON file say."""

    cluster: str
    boundaries: str
    plan: JsonObject
    plan_message: str
    pods_moved: int
    pods_restarted: int
    move_seconds: float
    before: Phase
    moving: Phase
    after: Phase
    minutes: float
    load: JsonObject
    problems: Sequence[str] = field(default_factory=tuple)
    """What the pod watch or the cluster said that should not have happened."""

    @property
    def phases(self) -> tuple[Phase, Phase, Phase]:
        return (self.before, self.moving, self.after)

    def total(self, key: str) -> int:
        """Sum of one count of the summaries over all three replays."""
        return sum(phase.count(key) for phase in self.phases)

    @property
    def stages(self) -> list[JsonObject]:
        found: list[JsonObject] = self.plan.get("stages", [])
        return found

    def failures(self) -> list[str]:
        """Why this run is no success, in words; empty when it is one."""
        sent, completed = self.total("requestsSent"), self.total("requestsCompleted")
        checks = {
            f"{self.total('requestsLost')} requests were lost": self.total("requestsLost") > 0,
            f"{self.total('streamsWrong')} streams differ from the uncut expectation": (
                self.total("streamsWrong") > 0
            ),
            f"{self.pods_restarted} pods were restarted or replaced": self.pods_restarted > 0,
            f"the plan has {len(self.stages)} stage(s), at least 2 are expected": (
                len(self.stages) < 2
            ),
            "no warm pod was moved": self.pods_moved < 1,
            "no request that outgrew its stage was handed over": (
                self.total("handoversToLongerStages") < 1
            ),
            f"only {completed} of {sent} requests completed": not 0 < sent == completed,
            f"{self.total('retries')} requests were turned away at first": (
                self.total("retries") > 0
            ),
        }
        return [words for words, failed in checks.items() if failed] + list(self.problems)

    def to_json(self) -> JsonObject:
        """The keys that scripts rely on, in the units that their names say."""
        return {
            "cluster": self.cluster,
            "boundaries": self.boundaries,
            "stages": self.stages,
            "plan": {**self.plan, "message": self.plan_message},
            "podsMoved": self.pods_moved,
            "podsRestarted": self.pods_restarted,
            "moveSeconds": round(self.move_seconds, 2),
            "requestsSent": self.total("requestsSent"),
            "requestsCompleted": self.total("requestsCompleted"),
            "requestsLost": self.total("requestsLost"),
            "handovers": self.total("handovers"),
            "handoversToLongerStages": self.total("handoversToLongerStages"),
            "streamsWrong": self.total("streamsWrong"),
            "latencyBefore": self.before.latency,
            "latencyAfter": self.after.latency,
            "phases": {phase.name: phase.summary for phase in self.phases},
            "load": self.load,
            "failures": self.failures(),
            "minutes": round(self.minutes, 2),
        }


def change_percent(before: Mapping[str, float], after: Mapping[str, float], key: str) -> float:
    """Relative change of one latency figure, in percent; negative is faster."""
    return 100.0 * (after[key] / before[key] - 1.0) if before[key] else 0.0
