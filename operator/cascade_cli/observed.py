"""Traffic as a source tells it, before anybody asks for another level of it."""

from dataclasses import dataclass, replace
from typing import Final

from cascade_cli.errors import BadInput, NoTraffic
from cascade_planner.histogram import LengthHistogram
from cascade_planner.marginals import Marginals
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import ProblemReason, Traffic, TrafficProblem
from cascade_policy.engine_model import EngineModel

SHORTEST_MODEL: Final = 2048
"""Tokens: no model in use is shorter, so no shorter limit is guessed."""

_CONTRADICTIONS: Final = (
    ProblemReason.MALFORMED_HISTOGRAM,
    ProblemReason.INCONSISTENT_HISTOGRAMS,
)


@dataclass(frozen=True, slots=True)
class Lengths:
    """A distribution of lengths in a few numbers, tokens; None for what the source leaves open."""

    mean: float | None = None
    p50: float | None = None
    p95: float | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What a source told."""

    kind: str
    """`trace`, `prometheus` or `histogram`."""
    name: str
    """File or address."""
    traffic: Traffic
    prompts: Lengths
    outputs: Lengths
    wholes: Lengths
    """Prompt and output together."""
    requests: float
    seconds: float | None
    """None where the source tells no times: only the shape of the traffic is known."""
    origin: str = ""
    """Whose requests these are, where the source tells."""
    marginals: Marginals | None = None
    """Where the source tells prompts and outputs apart: what the traffic was made of."""
    notes: tuple[str, ...] = ()
    """What a reader must know before believing the numbers, a sentence each."""


def usable(traffic: Traffic | TrafficProblem, where: str) -> Traffic:
    """The traffic. Raises NoTraffic, or BadInput where the source contradicts itself."""
    if not isinstance(traffic, TrafficProblem):
        return traffic
    error = BadInput if traffic.reason in _CONTRADICTIONS else NoTraffic
    raise error(f"{where}: {traffic.message}")


def model_length(longest: float) -> int:
    """A model's limit that takes sequences of `longest` tokens: the next power of two."""
    return max(SHORTEST_MODEL, 1 << (max(int(longest), 1) - 1).bit_length())


def scaled(traffic: Traffic, factor: float) -> Traffic:
    """The same requests, `factor` times as fast."""
    return replace(
        traffic,
        prompts_above=traffic.prompts_above * factor,
        finals_above=traffic.finals_above * factor,
        decoded=traffic.decoded * factor,
        window_seconds=traffic.window_seconds / factor,
    )


def scaled_marginals(marginals: Marginals, factor: float) -> Marginals:
    """The same for what traffic was made of."""
    return replace(
        marginals,
        prompts=scaled_histogram(marginals.prompts, factor),
        outputs=scaled_histogram(marginals.outputs, factor),
        window_seconds=marginals.window_seconds / factor,
    )


def scaled_histogram(histogram: LengthHistogram, factor: float) -> LengthHistogram:
    """`factor` times as many in each bucket."""
    return LengthHistogram(tuple((bound, rate * factor) for bound, rate in histogram.buckets))


def load_of(traffic: Traffic, engine: EngineModel, instances: int) -> float:
    """Share of the time of `instances` that the traffic's work takes; stable below 1.

    The closed-form limit with uneven lengths for free: the utilisation that simulations are set
    by, and linear in the rate.
    """
    even = replace(engine, heterogeneity=0.0)
    pool = Partition((traffic.max_length,), (instances,))
    _, state = Pricing(traffic, even, Objective()).forecast(pool)
    return float(state.load[0])
