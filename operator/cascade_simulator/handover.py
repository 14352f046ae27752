"""Hand-overs of running sequences from one instance to another, by each transport."""

from collections.abc import Callable
from dataclasses import dataclass

from cascade_policy.engine_model import EngineModel
from cascade_simulator.agenda import Agenda
from cascade_simulator.instance import SimulatedInstance
from cascade_simulator.live_sequence import LiveSequence, Prefill
from cascade_simulator.options import Links
from cascade_simulator.policy import Transport


@dataclass(eq=False, slots=True)
class Handover:
    """One sequence under way. While the source still decodes it, the move can be called off."""

    sequence: LiveSequence
    source: SimulatedInstance
    target: SimulatedInstance
    transport: Transport
    warm_up: Prefill | None = None
    """The job at the target that fills its cache."""
    left: bool = False
    """Whether the source has stopped."""


class Handovers:
    """All hand-overs of a run.

    `wake` is called with an instance that has got something to do.
    """

    def __init__(
        self,
        agenda: Agenda,
        links: Links,
        engine: EngineModel,
        wake: Callable[[SimulatedInstance], None],
    ) -> None:
        self.refused = 0
        self.copied_tokens = 0
        self.gaps_ms: list[float] = []
        self.made: list[int] = []
        """Id of the sequence of each hand-over that came to leaving the source."""
        self._agenda = agenda
        self._links = links
        self._engine = engine
        self._wake = wake
        self._under_way: dict[LiveSequence, Handover] = {}

    @property
    def count(self) -> int:
        """Hand-overs under way."""
        return len(self._under_way)

    def begin(
        self, sequence: LiveSequence, target: SimulatedInstance, transport: Transport
    ) -> bool:
        """Move a sequence to `target`; False when it is refused. A waiting one is just sent there,
        whatever the transport."""
        source = sequence.host
        accepted = source is not None and self._accept(sequence, source, target, transport)
        if not accepted:
            self.refused += 1
        return accepted

    def warmed(self, sequence: LiveSequence) -> None:
        """Its target has computed what it was sent: leave the source, send the newest tokens."""
        handover = self._under_way[sequence]
        handover.warm_up = None
        self._leave(handover)
        handover.target.expect(sequence, sequence.length, 0)
        self._agenda.at(self._agenda.now + self._links.fixed_ms, self._resume, handover)

    def cancel(self, sequence: LiveSequence) -> None:
        """Call off the move of a sequence, if one is under way: it has ended, or lost its KV."""
        handover = self._under_way.get(sequence)
        if handover is None:
            return
        if handover.warm_up is not None:
            handover.target.withdraw(handover.warm_up)
        self._end(handover)
        handover.target.forget(sequence)
        self._wake(handover.target)

    def emitted(self, sequence: LiveSequence) -> None:
        """A sequence that was silent has emitted a token."""
        if sequence.silent_since is not None:
            self.gaps_ms.append(self._agenda.now - sequence.silent_since)
            sequence.silent_since = None

    def target_died(self, instance: SimulatedInstance) -> list[LiveSequence]:
        """End all moves to `instance`. Returns the sequences that are nowhere now."""
        moves = [one for one in self._under_way.values() if one.target is instance]
        for handover in moves:
            self._end(handover)
        return [handover.sequence for handover in moves if handover.left]

    def _accept(
        self,
        sequence: LiveSequence,
        source: SimulatedInstance,
        target: SimulatedInstance,
        transport: Transport,
    ) -> bool:
        if not target.alive or target is source or sequence.moving:
            return False
        if not sequence.decoding:
            return self._redirect(sequence, source, target)
        if not target.has_room(sequence.length):
            return False
        handover = Handover(sequence, source, target, transport)
        if transport is not Transport.RECOMPUTE:
            if target.inbound >= self._links.inbound:
                return False
            target.inbound += 1
        sequence.handover = handover
        self._under_way[sequence] = handover
        match transport:
            case Transport.RECOMPUTE:
                self._recompute(handover)
            case Transport.WARM:
                self._warm_up(handover)
            case Transport.COPY:
                self._copy(handover)
        return True

    def _redirect(
        self, sequence: LiveSequence, source: SimulatedInstance, target: SimulatedInstance
    ) -> bool:
        """Send a sequence that still waits to another queue; it has nothing to lose."""
        job = source.waiting_job(sequence)
        if job is None:
            return False
        source.withdraw(job)
        self._arrive(sequence, target)
        self._wake(source)
        return True

    def _recompute(self, handover: Handover) -> None:
        self._leave(handover)
        handover.target.expect(handover.sequence, handover.sequence.length, 0)
        self._agenda.at(self._agenda.now + self._links.fixed_ms, self._resume, handover)

    def _warm_up(self, handover: Handover) -> None:
        sequence = handover.sequence
        sequence.known = max(sequence.known, sequence.length - 1)
        handover.warm_up = Prefill(sequence, warm_up=True)
        handover.target.enqueue(handover.warm_up)
        self._wake(handover.target)

    def _copy(self, handover: Handover) -> None:
        length = handover.sequence.length
        handover.target.expect(handover.sequence, length, length)
        time_ms = length * self._engine.kv_bytes_per_token / self._links.bytes_per_ms
        self._agenda.at(self._agenda.now + time_ms, self._copied, handover)

    def _copied(self, handover: Handover) -> None:
        if not self._is_under_way(handover):
            return
        self._leave(handover)
        self.copied_tokens += handover.sequence.length
        self._agenda.at(self._agenda.now + self._links.fixed_ms, self._join, handover)

    def _leave(self, handover: Handover) -> None:
        sequence, source = handover.sequence, handover.source
        sequence.silent_since = source.last_token_ms
        source.leave(sequence)
        sequence.host, sequence.instance = None, handover.target.index
        handover.left = True
        self.made.append(sequence.id)

    def _resume(self, handover: Handover) -> None:
        """The target gets prompt and output so far as a prompt."""
        if self._is_under_way(handover):
            self._end(handover)
            self._arrive(handover.sequence, handover.target)

    def _join(self, handover: Handover) -> None:
        """The target has the KV cache."""
        if self._is_under_way(handover):
            self._end(handover)
            handover.sequence.host = handover.target
            handover.target.join(handover.sequence)
            self._wake(handover.target)

    def _arrive(self, sequence: LiveSequence, target: SimulatedInstance) -> None:
        sequence.host, sequence.instance = target, target.index
        target.enqueue(Prefill(sequence))
        self._wake(target)

    def _is_under_way(self, handover: Handover) -> bool:
        return self._under_way.get(handover.sequence) is handover

    def _end(self, handover: Handover) -> None:
        del self._under_way[handover.sequence]
        handover.sequence.handover = None
        if handover.transport is not Transport.RECOMPUTE:
            handover.target.inbound -= 1
