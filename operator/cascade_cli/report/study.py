"""What a report is about: runs of several policies over the same requests."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cascade_policy.engine_model import EngineModel
from cascade_simulator.outcome import Floats, Outcome
from cascade_simulator.summary import in_window

Metric = Callable[[Outcome], Floats]
"""A value per request of an outcome, such as its time to first token."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all runs have in common."""

    trace: str
    traffic: str
    """How the trace was replayed: stationary, compressed, drifting."""
    instances: int
    profile: str
    engine: EngineModel
    requests: int
    ttft_target_ms: float
    tpot_target_ms: float
    transport: str
    length_blind: frozenset[str]
    """Names of policies that do not look at lengths when they choose among instances."""


@dataclass(frozen=True, eq=False, slots=True)
class Run:
    """One run of one policy."""

    policy: str
    load: float
    seed: int
    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Study:
    """The runs, every policy at every load with every seed."""

    setup: Setup
    runs: tuple[Run, ...]

    @cached_property
    def policies(self) -> tuple[str, ...]:
        """In the order in which they were named."""
        return tuple(dict.fromkeys(run.policy for run in self.runs))

    @cached_property
    def loads(self) -> tuple[float, ...]:
        """Ascending."""
        return tuple(sorted({run.load for run in self.runs}))

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted({run.seed for run in self.runs}))

    def outcomes(self, policy: str, load: float) -> list[Outcome]:
        """One per seed."""
        return [run.outcome for run in self.runs if (run.policy, run.load) == (policy, load)]

    def values(self, policy: str, load: float, metric: Metric, *, several: bool = False) -> Floats:
        """A value per request that counts, all seeds one after the other.

        Left out is what arrived while the run began or ended, and with `several` what had only
        one token to emit.
        """
        parts = []
        for outcome in self.outcomes(policy, load):
            chosen = in_window(outcome)
            if several:
                chosen &= outcome.output > 1
            parts.append(metric(outcome)[chosen])
        return np.concatenate(parts)
