"""Boundary refinement by the ratio of loads, as the cascade's paper describes it.

CascadeInfer (arXiv 2512.19179) lets neighbouring stages nudge their boundary by what they see of
each other's load. Its formula is not public; steps and thresholds here are ours.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

from cascade_planner.partition import Partition
from cascade_policy.load import InstanceLoad
from cascade_policy.price import decode_ms, step_ms
from cascade_simulator.policies.observations import Observations
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Move

INTERVAL_MS: Final = 2000.0
RATIO: Final = 2.0
"""Load of one stage over that of its neighbour from which their boundary moves."""
STEP: Final = 1.04
"""Factor by which it moves."""
GAP: Final = 1.05
"""Least ratio of two neighbouring boundaries."""


class LoadRatio:
    """Every 2 s each boundary moves 4 % towards the stage that is twice as loaded.

    The load of a stage is the mean over its instances of phi*W + n*T.
    """

    def __init__(self, staging: Staging, observations: Observations) -> None:
        self._staging = staging
        self._observations = observations

    @property
    def interval_ms(self) -> float:
        """Time between two steps."""
        return INTERVAL_MS

    def run(self, fleet: Fleet) -> Iterable[Move]:
        """Nudge the boundaries; no sequence is moved."""
        loads = self._loads(fleet)
        ends = [float(end) for end in self._staging.partition.ends]
        for inner in range(len(ends) - 1):
            below, above = loads[inner], loads[inner + 1]
            lowest = ends[inner - 1] * GAP if inner else 1.0
            if below > RATIO * above:
                ends[inner] = max(lowest, ends[inner] / STEP)
            elif above > RATIO * below:
                ends[inner] = min(ends[inner + 1] / GAP, ends[inner] * STEP)
        rounded = tuple(round(end) for end in ends)
        if all(low < high for low, high in pairwise(rounded)):
            counts = self._staging.partition.instances
            self._staging.move_boundaries(Partition(rounded, counts))
        return ()

    def _loads(self, fleet: Fleet) -> list[float]:
        """Load of each stage, in ms; 0 where nobody is alive."""
        sums = [0.0] * len(self._staging.partition.ends)
        counts = [0] * len(sums)
        for member in self._staging.alive(fleet):
            sums[member.stage] += self._load_ms(fleet.instances[member.index].load)
            counts[member.stage] += 1
        return [total / max(1, count) for total, count in zip(sums, counts, strict=True)]

    def _load_ms(self, load: InstanceLoad) -> float:
        engine = self._staging.map.engine
        wait = load.waiting_prefill_ms * engine.stretch(decode_ms(load, engine))
        return wait + self._observations.mean_output * step_ms(load, engine)
