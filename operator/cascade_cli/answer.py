"""What `cascade plan` found out: everything that its output is made of."""

import math
from dataclasses import dataclass

from cascade_cli.observed import Observed
from cascade_cli.pool import Pool
from cascade_planner.explain import binds
from cascade_planner.objective import Objective
from cascade_planner.plan import Binding, Plan, PlanOptions
from cascade_planner.sensitivity import Sensitivity
from cascade_planner.stage_cost import MAX_LOAD
from cascade_planner.traffic import Traffic


@dataclass(frozen=True, slots=True)
class Answer:
    """A plan, and what it was made from."""

    observed: Observed
    traffic: Traffic
    """The observed traffic, at the rate that was asked for."""
    load: float
    """Utilisation of the pool by it."""
    pool: Pool
    objective: Objective
    options: PlanOptions
    plan: Plan
    sensitivity: Sensitivity | None
    """What becomes of the plan if outputs depend on prompts, where the source leaves that open."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before believing the numbers."""
        return (*self.observed.notes, *self.pool.notes, *self._memory_notes)

    @property
    def _memory_notes(self) -> tuple[str, ...]:
        longest, held = self.traffic.max_length, self.pool.engine.kv_capacity_tokens
        note = (
            f"No instance holds a sequence of {longest:,} tokens: its KV cache ends at {held:,}. "
            "Set --max-length to what the engine takes."
        )
        return () if longest <= held else (note,)

    @property
    def advice(self) -> tuple[str, ...]:
        """What binds the plan, and what would help, a sentence each."""
        sentences = tuple(f"{one[0].upper()}{one[1:]}." for one in binds(self.plan))
        if Binding.STABILITY not in self.plan.binding or self._one_stage_fits:
            return sentences
        # All else that binds follows from too much load.
        return (self._too_few_gpus(), *(() if self.load >= 1 else sentences))

    @property
    def _one_stage_fits(self) -> bool:
        """Whether the GPUs are enough, so that it is the stages that leave one too few."""
        one = self.plan.one_stage_forecast
        return one is not None and one.load * self.objective.safety <= MAX_LOAD

    def _too_few_gpus(self) -> str:
        wanted = self.load * self.pool.instances * self.objective.safety / MAX_LOAD
        gpus = max(math.ceil(wanted), self.pool.instances + 1) * self.pool.gpus_per_instance
        peak = f"{100 * (self.objective.safety - 1):.0f} %"
        if self.load < 1:
            return f"With a margin of {peak} for peaks this traffic takes about {gpus} GPUs."
        return (
            "The traffic is more than the pool can do: delays would grow without end, and the "
            f"times above are no prediction. With a margin of {peak} for peaks it takes at least "
            f"{gpus} GPUs."
        )
