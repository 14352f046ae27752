"""Everything that a pass found out and did, collected for the report at its end."""

from dataclasses import dataclass, field

from cascade_operator.decisions import DecisionRecord
from cascade_operator.errors import PassError
from cascade_operator.finding import Finding
from cascade_operator.moves import Step
from cascade_operator.plans import PlanRecord
from cascade_operator.rollout import Rollout, Verdict
from cascade_operator.snapshot import Snapshot
from cascade_operator.spec import ServiceSpec
from cascade_policy.stage_map import StageMap


@dataclass(frozen=True, slots=True)
class Observation:
    """Input of the report."""

    spec: ServiceSpec
    snapshot: Snapshot
    plan: PlanRecord
    """The plan in force, or on the way to be."""
    shown: PlanRecord
    """The plan for the status: the one in force, or in Advisory mode the one that would be."""
    stage_map: StageMap | None
    """What the routers read."""
    decision: Finding
    metrics: Finding
    step: Step = field(default_factory=Step)
    rollout: Rollout = field(default_factory=lambda: Rollout(Verdict.READY))
    event: Finding | None = None
    """Something that happened in this pass alone."""
    record: DecisionRecord | None = None
    """What was decided about the plan last, None where nothing was."""
    error: PassError | None = None
    """What ended the pass early."""

    @property
    def settled(self) -> bool:
        """Whether nothing is on the way."""
        return (
            self.error is None
            and self.step.settled
            and self.rollout.verdict is Verdict.READY
            and sum(1 for pod in self.snapshot.pods if pod.warm and pod.ready)
            >= self.spec.instances
        )
