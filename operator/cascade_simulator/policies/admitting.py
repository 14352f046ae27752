"""Slice admission in front of a placement: only what fits may start, the rest waits its turn."""

from collections.abc import Callable, Sequence

from cascade_policy.admission import (
    Reservation,
    Room,
    Waiting,
    admit,
    blocks_needed,
    most_urgent,
    room,
)
from cascade_policy.engine_model import EngineModel
from cascade_policy.load import InstanceLoad
from cascade_simulator.policies.assembled import Placement, Reviewer
from cascade_simulator.policies.staging import Staging
from cascade_simulator.policy import Fleet, Instance, Move, Resident
from cascade_simulator.workload import Request


class Admission:
    """Which instances may take a sequence, and what is kept for the head of the queue."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._waiting: dict[int, Waiting] = {}
        self._reserved: tuple[int, Reservation] | None = None
        """Instance, and what is kept there."""

    def narrowed(self, sequence: Resident, fleet: Fleet) -> "Narrowed | None":
        """The fleet with those instances alone that have room; None when none has."""
        need = self._need(sequence)
        instances = [one for one in fleet.instances if one.alive]
        admitting = {one.index for one in instances if self._admits(one, sequence, need)}
        return Narrowed(fleet, admitting) if admitting else None

    def wait(self, sequence: Resident, fleet: Fleet) -> None:
        """Join the queue; its head may get a reservation where most is free."""
        stage_map, arrived = self._staging.map, sequence.request.arrival_ms
        self._waiting[sequence.id] = Waiting(
            sequence.id,
            arrived,
            arrived + stage_map.ttft_target_ms,
            stage_map.engine.prefill_ms(sequence.length),
        )
        now = fleet.now_ms
        head = most_urgent(self._waiting.values(), now)
        if head.id != sequence.id or self._reserved is not None or not head.holds_reservation(now):
            return
        alive = [instance for instance in fleet.instances if instance.alive]
        freest = max(alive, key=lambda instance: self._room(instance).free)
        self._reserved = (freest.index, Reservation(sequence.id, self._need(sequence)))

    def started(self, sequence: Resident) -> None:
        """Leave the queue."""
        self._waiting.pop(sequence.id, None)
        if self._reserved is not None and self._reserved[1].id == sequence.id:
            self._reserved = None

    def _admits(self, instance: Instance, sequence: Resident, need: int) -> bool:
        index, reservation = self._reserved or (-1, None)
        others = reservation is not None and reservation.id != sequence.id
        kept = reservation if others and index == instance.index else None
        return admit(need, self._room(instance), kept).admitted

    def _need(self, sequence: Resident) -> int:
        stage_map = self._staging.map
        return blocks_needed(
            sequence.length, stage_map.handoff.slice_tokens, stage_map.engine.block_tokens
        )

    def _room(self, instance: Instance) -> Room:
        stage_map = self._staging.map
        return room(instance.load, stage_map.engine, stage_map.handoff.slice_tokens)


class Admitting:
    """A placement that is offered instances with room alone."""

    def __init__(self, inner: Placement, admission: Admission) -> None:
        self._inner = inner
        self._admission = admission

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        """What the inner placement chooses; None when the sequence has to wait."""
        narrowed = self._admission.narrowed(sequence, fleet)
        target = None if narrowed is None else self._inner.place(sequence, narrowed)
        if target is None:
            self._admission.wait(sequence, fleet)
        else:
            self._admission.started(sequence)
        return target


class AdmittingReview:
    """A reviewer that moves sequences to instances with room alone."""

    def __init__(self, inner: Reviewer, admission: Admission) -> None:
        self._inner = inner
        self._admission = admission

    @property
    def slice_tokens(self) -> int:
        """Decoded tokens between two reviews."""
        return self._inner.slice_tokens

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        """The move that the inner reviewer proposes; None where nobody has room."""
        narrowed = self._admission.narrowed(sequence, fleet)
        return None if narrowed is None else self._inner.review(sequence, narrowed)


class Narrowed:
    """A fleet of which only some instances take requests."""

    def __init__(self, fleet: Fleet, indices: set[int]) -> None:
        self._fleet = fleet
        self._instances = [
            instance if instance.index in indices else Closed(instance)
            for instance in fleet.instances
        ]

    @property
    def now_ms(self) -> float:
        """Time since the start of the run."""
        return self._fleet.now_ms

    @property
    def model(self) -> EngineModel:
        """The engine model that policies believe in."""
        return self._fleet.model

    @property
    def instances(self) -> Sequence[Instance]:
        """All instances, by index."""
        return self._instances

    @property
    def random(self) -> Callable[[], float]:
        """The next random number of the run."""
        return self._fleet.random

    def running(self, instance: int) -> Sequence[Resident]:
        """Sequences that decode on `instance`."""
        return self._fleet.running(instance)

    def waiting(self, instance: int) -> Sequence[Resident]:
        """Sequences that wait on `instance`."""
        return self._fleet.waiting(instance)


class Closed:
    """An instance that takes no request for now."""

    alive = False

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    @property
    def index(self) -> int:
        """Its number."""
        return self._instance.index

    @property
    def load(self) -> InstanceLoad:
        """B, S, W and sigma."""
        return self._instance.load

    @property
    def waiting_sequences(self) -> int:
        """Sequences that no step has included yet."""
        return self._instance.waiting_sequences

    @property
    def waiting_tokens(self) -> int:
        """Tokens that they need in the KV cache."""
        return self._instance.waiting_tokens

    def cached_tokens(self, request: Request) -> int:
        """Tokens at the start of the prompt that its prefix cache holds."""
        return self._instance.cached_tokens(request)
