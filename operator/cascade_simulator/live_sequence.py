"""A request inside the cluster, and one computation of its tokens on an instance."""

from typing import TYPE_CHECKING

from cascade_simulator.workload import Request

if TYPE_CHECKING:
    from cascade_simulator.handover import Handover
    from cascade_simulator.instance import SimulatedInstance

NOWHERE = -1


class LiveSequence:
    """One request from its arrival to its last token. Lengths in tokens.

    A decoding sequence grows by one token with each step of its instance and is not touched for
    it: its length is `offset` plus the steps that the instance has made.
    """

    __slots__ = (
        "decoding",
        "end_length",
        "handover",
        "host",
        "id",
        "instance",
        "known",
        "offset",
        "request",
        "silent_since",
        "started",
        "still_length",
        "wake",
    )

    def __init__(self, number: int, request: Request) -> None:
        self.id = number
        self.request = request
        self.end_length = request.prompt + request.output
        self.still_length = request.prompt
        """Its length while it does not decode."""
        self.offset = 0
        """Its length less the steps of its instance, while it decodes."""
        self.decoding = False
        self.host: SimulatedInstance | None = None
        """Where it decodes, or waits to; None while it is at the front or on its way."""
        self.instance = NOWHERE
        self.wake = 0
        """The step of its instance after which it is finished or to be reviewed."""
        self.known = 0
        """Tokens at its start that have been computed at least once, anywhere."""
        self.handover: Handover | None = None
        self.silent_since: float | None = None
        """When its stream stopped for the hand-over that is being made; ms."""
        self.started = False
        """Whether it was given to an instance before."""

    @property
    def ended(self) -> bool:
        """Whether its last token is out."""
        return self.length >= self.end_length

    @property
    def length(self) -> int:
        """Prompt and tokens emitted so far."""
        if self.decoding and self.host is not None:
            return self.offset + self.host.decodes.steps
        return self.still_length

    @property
    def generated(self) -> int:
        """Tokens emitted so far."""
        return self.length - self.request.prompt

    @property
    def moving(self) -> bool:
        """Whether a hand-over of it is under way."""
        return self.handover is not None


class Prefill:
    """The first `length` tokens of a sequence, to be computed on one instance.

    The engine runs several such jobs per step and one over several steps. With `warm_up` only the
    KV cache is wanted: the sequence itself still decodes elsewhere.
    """

    __slots__ = ("admitted", "done", "length", "sequence", "shared_blocks", "warm_up", "work_ms")

    def __init__(self, sequence: LiveSequence, *, warm_up: bool = False) -> None:
        self.sequence = sequence
        self.length = sequence.length
        self.warm_up = warm_up
        self.done = 0
        self.work_ms = 0.0
        """Work that is booked for it and not done, ms of GPU time."""
        self.admitted = False
        """Whether it holds KV memory."""
        self.shared_blocks = 0
        """Blocks at its start that it holds in the prefix cache."""
