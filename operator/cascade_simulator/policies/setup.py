"""What every policy is made from."""

from dataclasses import dataclass, field

from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel
from cascade_policy.stage_map import Handoff
from cascade_simulator.options import Links
from cascade_simulator.policy import Transport


@dataclass(frozen=True, slots=True)
class Setup:
    """The service that a policy works for. Lengths in tokens, times in seconds unless said."""

    engine: EngineModel
    """The model that the policy believes in."""
    instances: int
    max_length: int = 131_072
    traffic: Traffic | None = None
    """What is known before the run; None: nothing, so that every cascade begins with one stage."""
    objective: Objective = field(default_factory=Objective)
    """Weights of the plans, and the TTFT and TPOT targets of plans and prices."""
    links: Links = field(default_factory=Links)
    """What hand-overs go over, as in the options of the run."""
    bias: float = 0.05
    """Handicap of an instance for each stage that it is away (soft boundaries)."""
    slice_tokens: int = 64
    """Decoded tokens between two reviews of a sequence."""
    replan_seconds: float = 60.0
    window_seconds: float = 600.0
    """Past over which the slow loop looks at the traffic."""
    refine_seconds: float = 15.0
    refine_window_seconds: float = 60.0
    """Past over which the fast loop looks at the traffic."""
    min_gain_percent: float = 5.0
    """Net gain from which a new plan is applied."""
    cooldown_seconds: float = 300.0

    @property
    def crossing(self) -> Crossing:
        """A crossing as the planner prices it."""
        if self.links.transport is Transport.COPY:
            return Crossing(self.links.bytes_per_ms, self.links.fixed_ms)
        return RECOMPUTE

    def handoff(self, *, enabled: bool) -> Handoff:
        """Hand-over as the stage map tells routers."""
        return Handoff(
            enabled=enabled,
            transport=self.links.transport.value,
            slice_tokens=self.slice_tokens,
            copy_bytes_per_ms=self.links.bytes_per_ms,
        )
