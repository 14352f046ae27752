"""The seam between the simulated cluster and the policies that are compared on it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.workload import Request


class Transport(StrEnum):
    """How a running sequence gets to another instance."""

    RECOMPUTE = "recompute"
    """The source stops; the target prefills prompt and output so far."""
    WARM = "warm"
    """The target prefills while the source goes on; then only the newest tokens are computed."""
    COPY = "copy"
    """The KV cache is copied while the source goes on; a short stop at the end."""


class Resident(Protocol):
    """One request inside the cluster."""

    @property
    def id(self) -> int:
        """Index of its request in the workload."""

    @property
    def request(self) -> Request:
        """What the client sent. `request.output` is for oracles alone."""

    @property
    def generated(self) -> int:
        """Tokens emitted so far."""

    @property
    def length(self) -> int:
        """Prompt and tokens emitted so far."""

    @property
    def instance(self) -> int:
        """Where it is; -1 before it is placed."""

    @property
    def moving(self) -> bool:
        """Whether a hand-over of it is under way."""


class Instance(Protocol):
    """One instance as the policy sees it: state as old as the run's `stale_ms`, plus what the
    policy itself has sent there since."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""

    @property
    def load(self) -> InstanceLoad:
        """B, S, W and sigma; queued sequences count."""

    @property
    def waiting_sequences(self) -> int:
        """Sequences that no step has included yet."""

    @property
    def waiting_tokens(self) -> int:
        """Tokens that they need in the KV cache."""

    def cached_tokens(self, request: Request) -> int:
        """Tokens at the start of the prompt that its prefix cache holds (0 when it has none)."""


class Fleet(Protocol):
    """What a policy may know when it decides."""

    @property
    def now_ms(self) -> float:
        """Time since the start of the run."""

    @property
    def model(self) -> EngineModel:
        """The engine model that policies believe in (the run may use another one)."""

    @property
    def instances(self) -> Sequence[Instance]:
        """All instances, by index."""

    @property
    def random(self) -> Callable[[], float]:
        """The next random number of the run, 0 <= x < 1."""

    def running(self, instance: int) -> Sequence[Resident]:
        """Sequences that decode on `instance` and are not moving, oldest first."""

    def waiting(self, instance: int) -> Sequence[Resident]:
        """Sequences that wait on `instance` for their first step, oldest first."""


@dataclass(frozen=True, slots=True)
class Move:
    """Hand the sequence `id` over to instance `target`; a waiting one is just sent there."""

    id: int
    target: int
    transport: Transport | None = None
    """None: the transport of the run."""


class Policy(Protocol):
    """Who gets a request, and which sequences move. One object serves one run: it may keep state.

    The cluster calls `place` once per arrival (and again for a sequence that lost its instance),
    `review` when a sequence has its first token and whenever it has decoded another
    `review_tokens`, and `tick` every `tick_ms`.
    """

    @property
    def name(self) -> str:
        """As in tables."""

    @property
    def review_tokens(self) -> int | None:
        """Decoded tokens between two reviews of a sequence; None for no review."""

    @property
    def tick_ms(self) -> float | None:
        """Time between two ticks; None for none."""

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """The instance that gets it. None: it waits at the front and is offered again, oldest
        first, whenever an instance has finished a sequence or a tick has passed."""

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """Whether it moves."""

    def tick(self, fleet: Fleet) -> Iterable[Move]:
        """Regular work: balancing, refinement, a new plan."""

    def finished(self, sequence: Resident, fleet: Fleet) -> None:
        """It emitted its last token."""

    def stages(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(greatest length of each stage, stage of each instance) as they are now; a policy
        without stages says ((model maximum,), (0, ...))."""
