"""How a run is set up, beside workload, engine model and policy."""

from dataclasses import dataclass

from cascade_policy.engine_model import EngineModel
from cascade_policy.move import FIXED_MOVE_MS
from cascade_simulator.policy import Transport


@dataclass(frozen=True, slots=True)
class Links:
    """What hand-overs go over."""

    transport: Transport = Transport.RECOMPUTE
    fixed_ms: float = FIXED_MOVE_MS
    """Stop of the stream beside the work itself: requests, the wait for a clean point."""
    bytes_per_ms: float = 25e6
    """Bandwidth of a copy (25 GB/s)."""
    inbound: int = 2
    """Warm-ups and copies that one instance accepts at a time; further moves are refused."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Instance `instance` dies at `at_ms`, its sequences go elsewhere, and is back, with an empty
    KV cache, at `until_ms`."""

    instance: int
    at_ms: float
    until_ms: float


@dataclass(frozen=True, slots=True)
class RunOptions:
    """One run."""

    links: Links = Links()
    stale_ms: float = 0.0
    """Age that the state of instances may reach before policies see a new one."""
    prefix_cache: bool = False
    """Whether instances keep the KV of finished prompts and reuse it (blocks must be known)."""
    failures: tuple[Failure, ...] = ()
    believed: EngineModel | None = None
    """The model that policies see; None: the true one. For tests of robustness."""
    sample_ms: float = 1000.0
    """Time between two samples of the load."""
