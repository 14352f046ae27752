"""The cluster in time: arrivals, steps, moves and failures, in the order in which they happen."""

from collections import deque
from collections.abc import Callable
from typing import Final

from cascade_policy.engine_model import EngineModel
from cascade_simulator.agenda import Agenda
from cascade_simulator.fleet import FleetView
from cascade_simulator.handover import Handovers
from cascade_simulator.instance import SimulatedInstance
from cascade_simulator.live_sequence import NOWHERE, LiveSequence, Prefill
from cascade_simulator.options import Failure, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policy import Move, Policy, Transport
from cascade_simulator.prefix_cache import PrefixCache
from cascade_simulator.recording import Recording
from cascade_simulator.workload import Workload

MOST_REFUSALS: Final = 32
"""Requests at the front that are asked for in vain before those behind them have to wait."""
PATIENCE_MS: Final = 60_000.0
"""How long a cluster without any work waits for a policy to place what waits at the front."""


class InvalidRun(ValueError):
    """The run cannot be made; the message says why and what to change."""


class InvalidDecision(RuntimeError):
    """A policy decided what cannot be; the message names the policy and the decision."""


def simulate(
    workload: Workload,
    engine: EngineModel,
    instances: int,
    policy: Policy,
    options: RunOptions,
    random: Callable[[], float],
    progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Run `workload` on `instances` engines under `policy`, to the last token.

    `random` gives numbers 0 <= x < 1 and is for the policy alone: the engines need none.
    `progress` is called now and then with the number of requests that have ended. A request that
    the policy never places is left unfinished (NaN) once the cluster has been idle for a minute.
    Raises InvalidRun, and InvalidDecision when the policy names an instance that is not there.
    """
    _check(workload, engine, instances, options)
    return _Cluster(workload, engine, instances, policy, options, random, progress).run()


class _Cluster:
    def __init__(
        self,
        workload: Workload,
        engine: EngineModel,
        instances: int,
        policy: Policy,
        options: RunOptions,
        random: Callable[[], float],
        progress: Callable[[int], None] | None,
    ) -> None:
        believed = options.believed or engine
        self.agenda = Agenda()
        self.requests = workload.requests
        self.policy = policy
        self.options = options
        self.progress = progress
        self.instances = [
            SimulatedInstance(
                index,
                engine,
                believed,
                self.agenda,
                policy.review_tokens,
                PrefixCache(workload.block_tokens) if options.prefix_cache else None,
            )
            for index in range(instances)
        ]
        self.fleet = FleetView(self.agenda, believed, self.instances, random, options.stale_ms)
        self.handovers = Handovers(self.agenda, options.links, engine, self._wake)
        self.recording = Recording(workload, instances)
        self.front: deque[LiveSequence] = deque()
        self.arrived = 0
        self.finished = 0
        self.active_ms = 0.0
        self.live: dict[int, LiveSequence] = {}
        self.recoveries = len(options.failures)

    def run(self) -> Outcome:
        self._prepare()
        agenda, requests = self.agenda, self.requests
        total = len(requests)
        while self.finished < total and not self._is_stuck():
            next_event = agenda.next_ms
            if self.arrived < total and requests[self.arrived].arrival_ms <= next_event:
                self._arrive()
            else:
                agenda.run_next()
        if self.progress is not None:
            self.progress(self.finished)
        return self.recording.outcome(self.policy.name, self.instances, self.handovers)

    def _prepare(self) -> None:
        for failure in self.options.failures:
            self.agenda.at(failure.at_ms, self._fail, failure)
        if self.policy.tick_ms is not None:
            self.agenda.at(self.policy.tick_ms, self._tick)
        self.recording.stages(self.policy, 0.0)
        self._sample()

    def _is_stuck(self) -> bool:
        """Whether what waits at the front will never be placed."""
        return (
            self.agenda.now - self.active_ms > PATIENCE_MS
            and self.arrived == len(self.requests)
            and self.recoveries == 0
            and self.handovers.count == 0
            and not any(one.busy for one in self.instances)
        )

    def _arrive(self) -> None:
        request = self.requests[self.arrived]
        self.agenda.now = self.active_ms = request.arrival_ms
        sequence = LiveSequence(self.arrived, request)
        self.arrived += 1
        self.live[sequence.id] = sequence
        if not self._place(sequence):
            self.front.append(sequence)

    def _place(self, sequence: LiveSequence) -> bool:
        """Ask the policy where a sequence goes, and send it there; False: it has to wait."""
        if not any(one.alive for one in self.instances):
            return False
        index = self.policy.place(sequence, self.fleet)
        if index is None:
            return False
        if not (0 <= index < len(self.instances) and self.instances[index].alive):
            raise InvalidDecision(
                f"policy {self.policy.name} placed request {sequence.id} on instance {index}, "
                "which is not alive: it must choose among those that are"
            )
        instance = self.instances[index]
        self.fleet.placed(sequence, index)
        if not sequence.started:
            sequence.started = True
            self.recording.placed(sequence.id, index)
        sequence.host, sequence.instance = instance, index
        instance.enqueue(Prefill(sequence))
        self._wake(instance)
        return True

    def _offer(self) -> None:
        """Ask again for what waits at the front, oldest first."""
        refused: list[LiveSequence] = []
        while self.front and len(refused) < MOST_REFUSALS:
            sequence = self.front.popleft()
            if not self._place(sequence):
                refused.append(sequence)
        self.front.extendleft(reversed(refused))

    def _wake(self, instance: SimulatedInstance) -> None:
        """Start a step of an instance that has none under way."""
        if instance.alive and not instance.busy:
            self._start(instance)

    def _start(self, instance: SimulatedInstance) -> None:
        duration = instance.start_step()
        if instance.preempted:
            for sequence in instance.preempted:
                self.handovers.cancel(sequence)
            instance.preempted.clear()
        if duration is not None:
            self.agenda.at(self.agenda.now + duration, self._finish, instance, instance.epoch)

    def _finish(self, instance: SimulatedInstance, epoch: int) -> None:
        if epoch != instance.epoch:
            return
        now = self.active_ms = self.agenda.now
        end = instance.finish_step()
        for sequence in end.first:
            self.recording.first_token(sequence.id, now)
            self.handovers.emitted(sequence)
        for sequence in end.warmed:
            self.handovers.warmed(sequence)
        for sequence in end.ended:
            self.recording.ended(sequence.id, now)
            self.handovers.cancel(sequence)
            self.finished += 1
            del self.live[sequence.id]
            self.policy.finished(sequence, self.fleet)
        for sequence in end.due:
            self._review(sequence)
        for sequence in end.first:
            if sequence.generated == 1:
                self._review(sequence)
        if end.ended:
            self._offer()
        self._start(instance)

    def _review(self, sequence: LiveSequence) -> None:
        """Ask whether a decoding sequence moves, unless it is moving already."""
        if self.policy.review_tokens is None or not sequence.decoding or sequence.moving:
            return
        move = self.policy.review(sequence, self.fleet)
        if move is not None:
            self._move(move)

    def _move(self, move: Move) -> None:
        sequence = self.live.get(move.id)
        if sequence is None or not 0 <= move.target < len(self.instances):
            raise InvalidDecision(
                f"policy {self.policy.name} moves request {move.id} to instance {move.target}: "
                "there is no such request in the cluster, or no such instance"
            )
        source, length, running = sequence.instance, sequence.length, sequence.decoding
        transport = move.transport or self.options.links.transport
        if self.handovers.begin(sequence, self.instances[move.target], transport):
            prefill = not (running and transport is Transport.COPY)
            self.fleet.moved(length, prefill, source, move.target)

    def _tick(self) -> None:
        for move in self.policy.tick(self.fleet):
            self._move(move)
        self.recording.stages(self.policy, self.agenda.now)
        self._offer()
        if self.policy.tick_ms is not None:
            self.agenda.at(self.agenda.now + self.policy.tick_ms, self._tick)

    def _sample(self) -> None:
        now = self.agenda.now
        self.recording.sample(now, self.instances, self.policy, len(self.front))
        if self.progress is not None:
            self.progress(self.finished)
        self.agenda.at(now + self.options.sample_ms, self._sample)

    def _fail(self, failure: Failure) -> None:
        """Lose an instance; whatever was on it or on its way to it goes on elsewhere."""
        instance = self.instances[failure.instance]
        self.agenda.at(failure.until_ms, self._recover, instance)
        lost = self.handovers.target_died(instance) + instance.die()
        self.recording.rescues += len(lost)
        for sequence in lost:
            self.handovers.cancel(sequence)
            sequence.host, sequence.instance = None, NOWHERE
        waiting = [sequence for sequence in lost if not self._place(sequence)]
        self.front.extendleft(reversed(waiting))

    def _recover(self, instance: SimulatedInstance) -> None:
        instance.alive = True
        self.recoveries -= 1
        self._offer()


def _check(workload: Workload, engine: EngineModel, instances: int, options: RunOptions) -> None:
    if instances < 1:
        raise InvalidRun(f"a cluster needs at least 1 instance, not {instances}")
    latest = 0.0
    for number, request in enumerate(workload.requests):
        if request.prompt < 1 or request.output < 1:
            raise InvalidRun(
                f"request {number} of {workload.name} has {request.prompt} prompt and "
                f"{request.output} output tokens: both must be at least 1"
            )
        if request.prompt + request.output > engine.kv_capacity_tokens:
            raise InvalidRun(
                f"request {number} of {workload.name} grows to "
                f"{request.prompt + request.output} tokens, more than the "
                f"{engine.kv_capacity_tokens} of KV cache that one instance has: use a profile "
                "with more memory, or leave out such requests"
            )
        if request.arrival_ms < latest:
            raise InvalidRun(
                f"request {number} of {workload.name} arrives before the one in front of it: "
                "sort the requests by time of arrival"
            )
        latest = request.arrival_ms
    _check_failures(options.failures, instances)


def _check_failures(failures: tuple[Failure, ...], instances: int) -> None:
    alive_from = [0.0] * instances
    for failure in sorted(failures, key=lambda failure: failure.at_ms):
        if not 0 <= failure.instance < instances:
            raise InvalidRun(
                f"a failure names instance {failure.instance}: there are 0 to {instances - 1}"
            )
        if not alive_from[failure.instance] <= failure.at_ms < failure.until_ms:
            raise InvalidRun(
                f"instance {failure.instance} fails at {failure.at_ms:g} ms and is back at "
                f"{failure.until_ms:g} ms: a failure must end after it begins, and before the "
                "next one of that instance"
            )
        alive_from[failure.instance] = failure.until_ms
