"""The move protocol against controllers that act on any old view, in any order."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cascade_operator import moves
from cascade_operator.lift import choose_lifts
from cascade_operator.moves import MovePod, Write, next_step
from cascade_operator.snapshot import ReplicaSet, Snapshot, Stage
from tests.operator.controllers import Conflict, World

INSTANCES = 6
SETTLE_ROUNDS = 120

plans = st.integers(1, 4).flatmap(
    lambda stages: st.lists(
        st.integers(0, INSTANCES - stages), min_size=stages - 1, max_size=stages - 1
    ).map(lambda cuts: _counts(sorted(cuts), stages))
)


def _counts(cuts: Sequence[int], stages: int) -> tuple[int, ...]:
    edges = [0, *cuts, INSTANCES - stages]
    return tuple(high - low + 1 for low, high in pairwise(edges))


def a_day(seed: int) -> "Moves":
    """Plans, scalings, deaths and quotas in the order that the seed gives, time between them."""
    chance, machine = Random(seed), Moves()
    machine.start()
    for _ in range(8):
        event = chance.random()
        bound = [
            pod for pod in machine.world.pods.objects.values() if pod.bound and not pod.deleting
        ]
        if event < 0.6:
            stages = chance.randint(1, 4)
            cuts = sorted(chance.randint(0, INSTANCES - stages) for _ in range(stages - 1))
            machine.counts = _counts(cuts, stages)
        elif event < 0.75:
            machine.scale(chance.randint(4, 8))
        elif event < 0.9 and bound:
            machine.world.delete_pod(chance.choice(bound))
        else:
            machine.quota(chance.random() < 0.5)
        machine.time_passes(chance.randint(0, 2**32), chance.randint(1, 60))
    return machine


@pytest.mark.parametrize("first_seed", range(0, 300, 50))
def test_no_warm_pod_dies_and_every_day_ends_at_the_plan(first_seed: int) -> None:
    for seed in range(first_seed, first_seed + 50):
        machine = a_day(seed)
        assert machine.world.warm_pods_killed == [], f"on day {seed}"
        machine.teardown()
        assert machine.world.most_bound <= 8


@pytest.mark.parametrize("seed", range(60))
def test_in_a_pause_in_mid_move_the_lost_are_replaced_and_the_day_ends_all_the_same(
    seed: int,
) -> None:
    chance, machine = Random(seed), Moves()
    machine.start()
    machine.counts = chance.choice([(2, 4), (1, 2, 3), (3, 1, 1, 1), (5, 1)])
    machine.time_passes(seed, chance.randint(1, 120))
    machine.pause(True)
    machine.settle()
    stages = {pod.name: pod.stage for pod in machine.world.pods.objects.values() if pod.bound}
    machine.world.delete_pod(machine.world.pods.objects[chance.choice(sorted(stages))])
    machine.settle()
    after = {pod.name: pod.stage for pod in machine.world.pods.objects.values() if pod.bound}
    assert len(after) == INSTANCES
    assert sum(after.get(name) == stage for name, stage in stages.items()) == INSTANCES - 1
    machine.teardown()


def _seen_at_once(*_: object) -> bool:
    return True


def _owned(snapshot: Snapshot, rs: ReplicaSet, _: Stage) -> int:
    return sum(1 for pod in snapshot.pods if pod.warm and pod.controller_uid == rs.uid)


BROKEN = {
    "replicas count before their controllers have seen them": ("proven", _seen_at_once),
    "a pod that another ReplicaSet is to adopt is not counted": ("held", _owned),
}


@pytest.mark.parametrize("case", BROKEN)
def test_these_days_would_show_a_protocol_in_which(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moves, *BROKEN[case])
    assert any(a_day(seed).world.warm_pods_killed for seed in range(30))


def test_these_days_would_show_replicas_lowered_before_a_death_was_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(moves._Board, "_provably_needed", lambda self, stage: self._held(stage))
    assert any(a_day(seed).world.warm_pods_killed for seed in range(300, 600))


class Moves(RuleBasedStateMachine):
    """Passes of the operator, cut short anywhere, between steps of lagging controllers."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(INSTANCES, lambda _: 0)
        self.counts: tuple[int, ...] = (INSTANCES,)
        self.disturbed = False
        self.paused = False

    @initialize()
    def start(self) -> None:
        self.settle()

    @rule(counts=plans)
    def new_plan(self, counts: tuple[int, ...]) -> None:
        self.counts = counts

    @rule(instances=st.integers(4, 8))
    def scale(self, instances: int) -> None:
        spare = instances - len(self.counts)
        self.counts = (*(1,) * (len(self.counts) - 1), spare + 1)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.paused = paused

    @rule(data=st.data())
    def some_view_advances(self, data: st.DataObject) -> None:
        lagging = [name for name, cache in self.world.caches.items() if cache.behind]
        if lagging:
            cache = self.world.caches[data.draw(st.sampled_from(lagging))]
            cache.advance(data.draw(st.integers(1, cache.behind)))

    @rule(data=st.data())
    def deployment_controller_runs(self, data: st.DataObject) -> None:
        names = sorted(self.world.caches["deployment/deployments"].objects)
        if names:
            self.world.sync_deployment(data.draw(st.sampled_from(names)))

    @rule(data=st.data())
    def replicaset_controller_runs(self, data: st.DataObject) -> None:
        names = sorted(self.world.caches["replicaset/sets"].objects)
        if names:
            self.world.pick = lambda n: data.draw(st.integers(0, n))
            self.world.sync_set(data.draw(st.sampled_from(names)))

    @rule(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
    def time_passes(self, seed: int, steps: int) -> None:
        """Many small steps of everyone in an order that the seed gives."""
        chance = Random(seed)
        self.world.pick = lambda n: chance.randint(0, n)
        for _ in range(steps):
            self._small_step(chance)

    def _small_step(self, chance: Random) -> None:
        world = self.world
        actor = chance.choice(
            ["view", "view", "view", "sets", "sets", "deployments", "pass", "rest"]
        )
        if actor == "view":
            cache = world.caches[chance.choice(list(world.caches))]
            cache.advance(chance.choice([1, 2, cache.behind]))
        elif actor == "sets":
            for name in world.caches["replicaset/sets"].objects:
                if chance.random() < 0.5:
                    world.sync_set(name)
        elif actor == "deployments":
            for name in world.caches["deployment/deployments"].objects:
                if chance.random() < 0.5:
                    world.sync_deployment(name)
        elif actor == "pass":
            torn = chance.random() < 0.3
            snapshot = world.snapshot((lambda: self._small_step(chance)) if torn else lambda: None)
            self._pass(snapshot, most=chance.choice([0, 1, 2, 20]), shuffle=chance.shuffle)
        elif chance.random() < 0.5:
            world.run_nodes()
        else:
            world.collect_garbage()

    @rule()
    def garbage_is_collected(self) -> None:
        self.world.collect_garbage()

    @rule()
    def nodes_run(self) -> None:
        self.world.run_nodes()

    @rule(data=st.data())
    def operator_passes(self, data: st.DataObject) -> None:
        """A whole pass, or one that ends after some of its writes, or sees a torn picture."""

        def between() -> None:
            if data.draw(st.booleans(), label="a change between the lists"):
                self.some_view_advances(data)
                self.replicaset_controller_runs(data)

        chance = Random(data.draw(st.integers(0, 9)))
        self._pass(self.world.snapshot(between), data.draw(st.integers(0, 12)), chance.shuffle)

    @rule(data=st.data())
    def a_pod_dies(self, data: st.DataObject) -> None:
        """Evicted, or deleted by a human."""
        bound = sorted(pod.name for pod in self.world.pods.objects.values() if pod.bound)
        if bound:
            name = data.draw(st.sampled_from(bound))
            pod = self.world.pods.objects[name]
            if not pod.deleting:
                self.world.delete_pod(pod)

    @rule(data=st.data())
    @precondition(lambda self: not self.disturbed)
    def a_label_is_edited(self, data: st.DataObject) -> None:
        pods = sorted(pod.name for pod in self.world.pods.objects.values() if not pod.deleting)
        if pods:
            pod = self.world.pods.objects[data.draw(st.sampled_from(pods))]
            stage = data.draw(st.sampled_from(["0", "1", "2", "9x", "leaving"]))
            self.world.pods.put(replace(pod, stage=stage))
            self.disturbed = True

    @rule(data=st.data())
    def a_stage_is_scaled_up_by_hand(self, data: st.DataObject) -> None:
        names = sorted(self.world.deployments.objects)
        if not names:
            return
        deployment = self.world.deployments.objects[data.draw(st.sampled_from(names))]
        self.world.deployments.put(
            replace(
                deployment,
                replicas=deployment.replicas + 2,
                generation=deployment.generation + 1,
            )
        )

    @rule(full=st.booleans())
    def quota(self, full: bool) -> None:
        self.world.quota = len(self.world.pods.objects) if full else None

    @rule(data=st.data())
    @precondition(lambda self: not self.disturbed)
    def a_deployment_is_deleted(self, data: st.DataObject) -> None:
        names = sorted(self.world.deployments.objects)
        if names:
            self.world.deployments.drop(data.draw(st.sampled_from(names)))
            self.disturbed = True

    @invariant()
    def no_warm_pod_was_killed(self) -> None:
        assert self.world.warm_pods_killed == []

    def teardown(self) -> None:
        self.world.pick = lambda _: 0
        self.world.quota = None
        self.paused = False
        self.settle()
        assert self.world.warm_pods_killed == []
        by_stage = [
            sum(1 for pod in self.world.pods.objects.values() if pod.stage == str(index))
            for index in range(len(self.counts))
        ]
        assert by_stage == list(self.counts)
        assert len(self.world.pods.objects) == sum(self.counts)
        assert all(pod.bound for pod in self.world.pods.objects.values())
        assert len(self.world.deployments.objects) == len(self.counts)

    def settle(self) -> None:
        for _ in range(SETTLE_ROUNDS):
            self.world.run_nodes()
            snapshot = self.world.snapshot()
            if self._pass(snapshot, most=100) and not any(
                cache.behind for cache in self.world.caches.values()
            ):
                return
            self.world.catch_up()
        raise AssertionError(f"not settled on {self.counts}: {self.world.snapshot()}")

    def _pass(
        self,
        snapshot: Snapshot,
        most: int,
        shuffle: Callable[[list[Write]], object] = lambda _: None,
    ) -> bool:
        """What the service task does with a snapshot; True when there was nothing to do."""
        lifts = choose_lifts(snapshot, self.counts, sum(self.counts), now=0.0)
        step = next_step(
            snapshot,
            self.counts,
            mapped_stages=len(self.counts),
            max_moving=3,
            paused=self.paused,
        )
        writes = list(step.writes)
        if self.paused:
            moved = [write.pod for write in writes if isinstance(write, MovePod)]
            assert [pod for pod in moved if pod.controller_uid is not None] == []
        if lifts:
            writes = []
        shuffle(writes)
        for pod in lifts[:most]:
            with suppress(Conflict):
                self.world.lift(pod)
        for write in writes[:most]:
            with suppress(Conflict):
                self.world.perform(write)
        return not lifts and step.settled


Moves.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
TestMoves = Moves.TestCase
