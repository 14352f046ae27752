"""The price of partitions: closed-form stage costs put together under one objective."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_planner.arrays import Array, Index
from cascade_planner.objective import RECOMPUTE, Crossing, Objective
from cascade_planner.partition import Partition, StageCosts
from cascade_planner.stage_cost import (
    BACKLOG_MS,
    Cuts,
    StageState,
    StageWork,
    delay_cost,
    missing_instances,
    occupy,
    settle,
)
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel

OBSERVED_WEIGHT: Final = 10.0
"""Price of work that does not fit at the observed rates, against that at the rates with safety.
High enough that no stage is given up to keep the margin of the others."""
_NO_WORK: Final = 1e-30


@dataclass(frozen=True, slots=True)
class Pricing:
    """One traffic on one engine under one objective: what partitions cost."""

    traffic: Traffic
    engine: EngineModel
    objective: Objective
    crossing: Crossing = RECOMPUTE

    def stages_between(self, lengths: Sequence[int]) -> StageCosts:
        """Costs of the stages that end at any of `lengths` (ascending, tokens)."""
        cuts = self._cuts(lengths)

        def costs(first: Index, last: Index, instances: Array) -> Array:
            return self._costs(cuts, first, last, instances)

        return costs

    def cost(self, partition: Partition) -> float:
        """Cost of `partition`, request-ms per ms."""
        first, last = _chain(partition)
        m = np.asarray(partition.instances, dtype=np.float64)
        return float(self._costs(self._cuts(partition.ends), first, last, m).sum())

    def forecast(self, partition: Partition) -> tuple[StageWork, StageState]:
        """Work and equilibrium of the stages at the rates as they are, without safety."""
        first, last = _chain(partition)
        m = np.asarray(partition.instances, dtype=np.float64)
        work = StageWork.between(
            self._cuts(partition.ends), first, last, self.engine, self.crossing
        )
        return work, settle(work, m, self.engine)

    def _cuts(self, lengths: Sequence[int]) -> Cuts:
        return Cuts.of(self.traffic, lengths, self.engine)

    def _costs(self, cuts: Cuts, first: Index, last: Index, instances: Array) -> Array:
        observed = StageWork.between(cuts, first, last, self.engine, self.crossing)
        peak = observed.times(self.objective.safety)
        at_peak = settle(peak, instances, self.engine)
        # A peak that does not fit passes; what does not fit at the observed rates never ends.
        missing = missing_instances(at_peak, instances) + OBSERVED_WEIGHT * missing_instances(
            occupy(observed, instances, self.engine), instances
        )
        return delay_cost(peak, at_peak, self.objective) + self._backlog_price(cuts) * missing

    def _backlog_price(self, cuts: Cuts) -> float:
        """Cost of one missing instance: the requests it would serve wait for BACKLOG_MS."""
        work_ms = (
            cuts.prefill[-1]
            + cuts.decode[-1] * self.engine.per_sequence_ms
            + cuts.kv[-1] * self.engine.per_kv_token_ms
        )
        # Prompts that are cached whole, and answers of one token, leave nothing to do.
        requests_per_ms_of_work = float(cuts.arrivals[-1] / max(work_ms, _NO_WORK))
        return self.objective.alpha * BACKLOG_MS * requests_per_ms_of_work


def _chain(partition: Partition) -> tuple[Index, Index]:
    stages = len(partition.ends)
    return np.arange(stages), np.arange(1, stages + 1)
