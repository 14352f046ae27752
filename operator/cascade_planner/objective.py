"""What a plan is judged by, and what a crossing of a boundary costs."""

import math
from dataclasses import dataclass
from typing import Final

from cascade_planner.arrays import Array
from cascade_policy.engine_model import EngineModel
from cascade_policy.move import FIXED_MOVE_MS


@dataclass(frozen=True, slots=True)
class Crossing:
    """How a sequence that outgrows its stage gets to the next one.

    The default recomputes the prefix there. With `copy_bytes_per_ms` its KV cache is copied
    instead, at that bandwidth (bytes per ms). Either way it stops for `fixed_ms` beside that.
    """

    copy_bytes_per_ms: float | None = None
    fixed_ms: float = FIXED_MOVE_MS

    @property
    def recomputes(self) -> bool:
        """Whether a crossing is prefill work for the stage that receives it."""
        return self.copy_bytes_per_ms is None

    def copy_ms(self, lengths: Array, engine: EngineModel) -> Array:
        """Delay in ms beside recomputation, for sequences of `lengths` tokens."""
        bytes_per_ms = math.inf if self.copy_bytes_per_ms is None else self.copy_bytes_per_ms
        delays: Array = self.fixed_ms + lengths * (engine.kv_bytes_per_token / bytes_per_ms)
        return delays


RECOMPUTE: Final = Crossing()


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights and targets of a plan's cost.

    The cost is `alpha * (time to first token) + beta * (decode time + crossings)`, in request-ms
    per ms summed over all requests: with alpha = beta = 1 and no penalty it is, by Little's law,
    the mean number of requests in the system, and divided by the arrival rate the mean
    end-to-end time.
    """

    ttft_target_ms: float = 2000.0
    tpot_target_ms: float = 100.0
    alpha: float = 5.0
    """Worth of a ms before the first token, in ms of decoding: five, because readers wait for it,
    and because a mean alone would let the longest prompts pay for everyone else."""
    beta: float = 1.0
    safety: float = 1.15
    """Rates are planned as if this much higher, so that a plan survives an ordinary peak."""
    slo_weight: float = 1.0
    """Extra price of each ms beyond a target, as a multiple of its ordinary price."""

    def __post_init__(self) -> None:
        positive = (self.ttft_target_ms, self.tpot_target_ms, self.alpha, self.beta, self.safety)
        if not all(0 < value < float("inf") for value in positive):
            raise ValueError(f"objective: targets, weights and safety must be positive: {self}")
        if not 0 <= self.slo_weight < float("inf"):
            raise ValueError(f"objective: slo_weight must be at least 0, not {self.slo_weight}")
