"""What policies may know: the cluster as it is, or as it was a moment ago."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.agenda import Agenda
from cascade_simulator.instance import SimulatedInstance
from cascade_simulator.live_sequence import LiveSequence
from cascade_simulator.policy import Instance
from cascade_simulator.workload import Request


class StaleInstance:
    """An instance as last heard of, and what has been sent to it and taken from it since.

    Whether it is alive and what its cache holds is always known: routers hear of membership by
    another way, and know what they have sent.
    """

    __slots__ = ("_load", "_now", "index", "waiting_sequences", "waiting_tokens")

    def __init__(self, now: SimulatedInstance) -> None:
        self.index = now.index
        self._now = now
        self.refresh()

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._now.alive

    @property
    def load(self) -> InstanceLoad:
        """The load as far as it is known."""
        return self._load

    def cached_tokens(self, request: Request) -> int:
        """Tokens at the start of the prompt that its prefix cache holds."""
        return self._now.cached_tokens(request)

    def refresh(self) -> None:
        """Hear of its state."""
        self._load = self._now.load
        self.waiting_sequences = self._now.waiting_sequences
        self.waiting_tokens = self._now.waiting_tokens

    def sent(self, length: int, work_ms: float) -> None:
        """Count a sequence that was sent there, with `work_ms` to prefill."""
        load = self._load.plus(length)
        self._load = replace(load, waiting_prefill_ms=load.waiting_prefill_ms + work_ms)
        self.waiting_sequences += 1
        self.waiting_tokens += length

    def taken(self, length: int) -> None:
        """Count a sequence that was moved away."""
        self._load = self._load.minus(length)


class FleetView:
    """The fleet as policies see it (`cascade_simulator.policy.Fleet`)."""

    def __init__(
        self,
        agenda: Agenda,
        model: EngineModel,
        instances: Sequence[SimulatedInstance],
        random: Callable[[], float],
        stale_ms: float,
    ) -> None:
        self.model = model
        self.random = random
        self._agenda = agenda
        self._real = tuple(instances)
        self._stale_ms = stale_ms
        self._stale = tuple(StaleInstance(one) for one in instances) if stale_ms > 0 else ()
        self._heard_ms = 0.0

    @property
    def now_ms(self) -> float:
        """Time since the start of the run."""
        return self._agenda.now

    @property
    def instances(self) -> Sequence[Instance]:
        """All instances, by index."""
        if not self._stale:
            return self._real
        if self.now_ms - self._heard_ms >= self._stale_ms:
            self._heard_ms = self.now_ms
            for one in self._stale:
                one.refresh()
        return self._stale

    def running(self, instance: int) -> Sequence[LiveSequence]:
        """Sequences that decode on `instance` and are not moving, oldest first."""
        return [one for one in self._real[instance].decodes if not one.moving]

    def waiting(self, instance: int) -> Sequence[LiveSequence]:
        """Sequences that wait on `instance` for their first step, oldest first."""
        waiting = self._real[instance].prefills.waiting
        return [job.sequence for job in waiting if not job.warm_up]

    def placed(self, sequence: LiveSequence, instance: int) -> None:
        """Note that `sequence` was sent to `instance`."""
        if self._stale:
            length = sequence.length
            cached = self._real[instance].cached_tokens(sequence.request)
            self._stale[instance].sent(length, self.model.prefill_ms(length, cached))

    def moved(self, length: int, prefill: bool, source: int, target: int) -> None:
        """Note that a sequence of `length` is moved, to be computed again there or not."""
        if self._stale:
            self._stale[source].taken(length)
            self._stale[target].sent(length, self.model.prefill_ms(length) if prefill else 0.0)
