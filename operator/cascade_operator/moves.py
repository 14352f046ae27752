"""The move protocol: warm pods change their stage without a restart.

Pure: a snapshot and the wanted instances per stage in, the next writes out. Every write is safe
whatever old view the ReplicaSet and Deployment controllers act on, because it waits for *proof*:

- a stage takes pods only when its ReplicaSet has observed room for them;
- a stage is lowered only by pods that another controller owns, or none, or by its own gated ones;
- a stage goes away only when nothing alive belongs to it.

The state is the cluster's alone: the next pass, or another replica of the operator, goes on from
what it reads.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cascade_operator.holdings import adopts, held, proven
from cascade_operator.rollout import rolling
from cascade_operator.snapshot import STAGE_LEAVING, Pod, ReplicaSet, Snapshot, Stage

_LEAST_MOVING: Final = 8
_PARTS: Final = 10


@dataclass(frozen=True, slots=True)
class CreateStage:
    """Create the Deployment and the headless Service of a stage."""

    index: int
    replicas: int


@dataclass(frozen=True, slots=True)
class SetReplicas:
    """Change spec.replicas of a stage Deployment that is still as it was read."""

    stage: Stage
    replicas: int


@dataclass(frozen=True, slots=True)
class MovePod:
    """Relabel a pod to the stage and the ReplicaSet (by pod-template-hash) that shall own it."""

    pod: Pod
    stage: int
    pod_template_hash: str


@dataclass(frozen=True, slots=True)
class ReleasePod:
    """Take a pod out of its stage; once no controller owns it, it can be deleted exactly."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete a pod that no controller owns."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class DeleteStage:
    """Delete an emptied stage's Deployment and Service."""

    stage: Stage


Write = CreateStage | SetReplicas | MovePod | ReleasePod | DeletePod | DeleteStage


@dataclass(frozen=True, slots=True)
class Step:
    """Writes of this pass, in no order that matters, and what stands between here and the plan."""

    writes: tuple[Write, ...] = ()
    waiting: str = ""
    """What the protocol waits for, in words; empty when nothing."""
    short: int = 0
    """Instances that do not exist yet, not even as lifted pods."""
    to_move: int = 0
    """Instances that are not in the stage where the counts want them, or not yet taken in there."""
    held_back: int = 0
    """The same of those that stay where they are because moves are paused."""

    @property
    def done(self) -> bool:
        """Whether no move is half done. Instances may still be missing."""
        return not self.writes and not self.waiting

    @property
    def settled(self) -> bool:
        """Whether the cluster is what the counts want."""
        return self.done and not self.short


def most_moving(instances: int) -> int:
    """How many of so many instances may be between stages at once: what `max_moving` is to be.

    A tenth of a large service, so that a plan takes as many rounds with a thousand instances as
    with a hundred; of a small one at most half, so that all stages keep someone who serves.
    """
    return max(1, min(instances // 2, max(_LEAST_MOVING, instances // _PARTS)))


def next_step(
    snapshot: Snapshot,
    counts: Sequence[int],
    *,
    mapped_stages: int,
    max_moving: int,
    paused: bool = False,
) -> Step:
    """The writes that bring the stages towards `counts` (instances per stage index).

    `mapped_stages` is the number of stages of the stage map in force: none of them is deleted.
    `max_moving` bounds the pods that are between stages at once. While `paused` no pod leaves its
    stage for another one; pods that are between stages arrive, and lost ones are taken in.
    """
    missing = _missing_stages(snapshot, counts)
    if missing:
        return Step(writes=missing)
    blocked = _blocked(snapshot)
    if blocked:
        return Step(waiting=blocked)
    return _Board(snapshot, counts, mapped_stages, max_moving, paused).step()


def in_transit(snapshot: Snapshot) -> Counter[int | None]:
    """Warm pods per stage label that the stage's ReplicaSet does not own yet."""
    moving: Counter[int | None] = Counter()
    for pod in snapshot.pods:
        stage = snapshot.stage(pod.stage)
        current = stage.current if stage is not None else None
        if pod.warm and (current is None or pod.controller_uid != current.uid):
            moving[pod.stage] += 1
    return moving


def _missing_stages(snapshot: Snapshot, counts: Sequence[int]) -> tuple[Write, ...]:
    """Deployments that the plan needs or that pods are labelled for, with room for the latter."""
    labelled = Counter(pod.stage for pod in snapshot.pods if pod.warm and pod.stage is not None)
    present = {stage.index for stage in snapshot.stages}
    wanted = dict(enumerate(counts))
    return tuple(
        CreateStage(index, max(wanted.get(index, 0), labelled[index]))
        for index in sorted({*wanted, *(i for i in labelled if i is not None)} - present)
    )


def _blocked(snapshot: Snapshot) -> str:
    """Why no replicas may change and no pod may move; empty when they may."""
    for stage in snapshot.stages:
        if stage.deleting:
            return f"the deletion of Deployment {stage.name}"
        if stage.current is None:
            return f"Deployment {stage.name} to be taken up by its controller"
        if stage.template_hash != snapshot.stages[0].template_hash:
            return "all stages to have the same pod template"
        if rolling(stage, snapshot):
            return f"the rollout of Deployment {stage.name}"
    return ""


@dataclass(slots=True)
class _Board:
    """One computation of a step; the fields after the first five are filled by `step`."""

    snapshot: Snapshot
    counts: Sequence[int]
    mapped_stages: int
    max_moving: int
    paused: bool
    warm: tuple[Pod, ...] = ()
    assigned: dict[int, list[Pod]] = field(default_factory=dict)
    """Warm pods that belong, or will belong, to the ReplicaSet of a stage, by its index."""
    transit: Counter[int | None] = field(default_factory=Counter)
    writes: list[Write] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    inbound: Counter[int] = field(default_factory=Counter)

    def step(self) -> Step:
        self._look()
        leaving = [pod for pod in self.warm if pod.stage_label == STAGE_LEAVING]
        lost = self._lost(leaving)
        surplus_total = max(0, len(self.warm) - sum(self.counts))
        self._raise()
        self._remove(leaving, lost, surplus_total)
        returning = leaving[surplus_total:]
        self._move([*lost, *(pod for pod in returning if pod.controller_uid is None)])
        self._lower()
        self._delete_stages()
        self._note_waits()
        short = max(0, sum(self.counts) - len(self.warm))
        waiting = "; ".join(dict.fromkeys(self.waits))
        between = sum(self.transit.values())
        misplaced = self._misplaced(surplus_total)
        if self.paused:
            return Step(tuple(self.writes), waiting, short, between, held_back=misplaced)
        return Step(tuple(self.writes), waiting, short, misplaced + between)

    # What the stages hold.

    def _look(self) -> None:
        """What is asked for again and again is looked up once."""
        self.warm = tuple(pod for pod in self.snapshot.pods if pod.warm)
        self.transit = in_transit(self.snapshot)
        for stage in self.snapshot.stages:
            current = _current(stage)
            self.assigned[stage.index] = [pod for pod in self.warm if adopts(current, stage, pod)]

    def _wanted(self, index: int) -> int:
        return self.counts[index] if index < len(self.counts) else 0

    def _held(self, stage: Stage) -> int:
        return held(self.snapshot, _current(stage), stage)

    def _home(self, stage: Stage) -> list[Pod]:
        """Warm pods that provably belong to the stage, the best to move first."""
        current = _current(stage)
        home = [pod for pod in self.assigned[stage.index] if pod.controller_uid == current.uid]
        return sorted(home, key=lambda pod: (not pod.ready, not pod.bound, pod.name))

    def _lost(self, leaving: Iterable[Pod]) -> list[Pod]:
        """Warm pods that no controller owns and none will adopt as they are labelled."""
        excluded = {pod.uid for pod in leaving}
        for stage in self.snapshot.stages:
            excluded.update(pod.uid for pod in self.assigned[stage.index])
        return [pod for pod in self.warm if pod.controller_uid is None and pod.uid not in excluded]

    # The steps of the protocol.

    def _raise(self) -> None:
        """A raise is always safe: what comes of it is born gated."""
        for stage in self.snapshot.stages:
            least = max(self._wanted(stage.index), self._held(stage))
            if stage.replicas < least:
                self.writes.append(SetReplicas(stage, least))

    def _remove(self, leaving: list[Pod], lost: list[Pod], surplus: int) -> None:
        """Instances beyond the declared number: released first, deleted when nobody owns them."""
        for pod in leaving[:surplus]:
            if pod.controller_uid is None:
                self.writes.append(DeletePod(pod))
        remaining = max(0, surplus - len(leaving))
        outdated = [pod for pod in lost if not self._template_fits(pod)]
        gone = (outdated or lost)[:remaining]
        self.writes.extend(DeletePod(pod) for pod in gone)
        if outdated and not gone:
            self.writes.append(DeletePod(outdated[0]))
            gone = outdated[:1]
        for pod in gone:
            lost.remove(pod)
        self._release(min(remaining - len(gone), self.max_moving))
        self._delete_stray_placeholders()

    def _release(self, number: int) -> None:
        """Let go of so many: first of those that have no node, in whatever stage they are."""
        number, chosen = max(0, number), list[Pod]()
        homes = {stage.index: self._home(stage)[::-1] for stage in reversed(self.snapshot.stages)}
        if not self.paused:
            chosen = [pod for home in homes.values() for pod in home if not pod.bound][:number]
        for index, home in homes.items():
            staying = [pod for pod in home if pod not in chosen]
            gone = len(home) - len(staying)
            spare = len(self.assigned[index]) - gone - self._wanted(index)
            chosen += staying[: max(0, min(spare, number - len(chosen)))]
        self.writes.extend(ReleasePod(pod) for pod in chosen)

    def _delete_stray_placeholders(self) -> None:
        """A placeholder that lost its controller by a hand-edited label serves nobody."""
        for pod in self.snapshot.pods:
            if pod.live and pod.gated and pod.controller_uid is None:
                stage = self.snapshot.stage(pod.stage)
                if stage is None or pod.pod_template_hash != _current(stage).pod_template_hash:
                    self.writes.append(DeletePod(pod))

    def _move(self, lost: list[Pod]) -> None:
        """Relabel pods into stages whose ReplicaSet has proven room for them."""
        allowed = self.max_moving - sum(self.transit.values()) + len(lost)
        candidates = [pod for pod in lost if self._template_fits(pod)]
        if not self.paused:
            candidates += self._spare()
        for stage in self.snapshot.stages:
            deficit = self._wanted(stage.index) - len(self.assigned[stage.index])
            if deficit <= 0 or not candidates:
                continue
            room = _current(stage).replicas - self._held(stage) if _proven(stage) else 0
            if room < min(deficit, len(candidates)):
                self.waits.append(f"{stage.name} to have room for {deficit} more")
            for pod in candidates[: max(0, min(deficit, room, allowed))]:
                candidates.remove(pod)
                allowed -= 1
                self.inbound[stage.index] += 1
                hash_ = _current(stage).pod_template_hash
                self.writes.append(MovePod(pod, stage.index, hash_))

    def _spare(self) -> list[Pod]:
        """Pods that stages can give away: those beyond their wanted number, less the released."""
        released = {write.pod.uid for write in self.writes if isinstance(write, ReleasePod)}
        spare: list[Pod] = []
        for stage in self.snapshot.stages:
            staying = [pod for pod in self._home(stage) if pod.uid not in released]
            kept = len([pod for pod in self.assigned[stage.index] if pod.uid not in released])
            extra = max(0, kept - self._wanted(stage.index))
            spare.extend(pod for pod in staying[:extra] if self._template_fits(pod))
        return spare

    def _lower(self) -> None:
        """Take back the replicas of pods that have provably left."""
        for stage in self.snapshot.stages:
            least = max(self._wanted(stage.index), self._held(stage))
            if stage.replicas <= least:
                continue
            if self.inbound[stage.index] or not _proven(stage):
                self.waits.append(f"{stage.name} to be lowered to {least}")
                continue
            lowest = max(least, self._provably_needed(stage))
            if lowest < stage.replicas:
                self.writes.append(SetReplicas(stage, lowest))
            if lowest > least:
                self.waits.append(f"{stage.name} to let go of its pods")

    def _provably_needed(self, stage: Stage) -> int:
        """Replicas below which the ReplicaSet might, in an old view, delete a warm pod.

        A deleted pod that no placeholder stands for may still be alive in the controller's view,
        and so may a pod that vanished since it last reported its count.
        """
        current = _current(stage)
        own = [pod for pod in self.snapshot.pods if pod.controller_uid == current.uid]
        alive = sum(1 for pod in own if pod.live)
        dying = sum(1 for pod in own if pod.deleting and not pod.gated)
        unproven = min(dying, max(0, stage.replicas - alive))
        unseen = max(0, current.observed_replicas - alive)
        return self._held(stage) + max(unproven, unseen)

    def _delete_stages(self) -> None:
        for stage in self.snapshot.stages:
            if stage.index < len(self.counts):
                continue
            if stage.index < self.mapped_stages:
                self.waits.append(f"the stage map to drop {stage.name}")
            elif self._empty(stage):
                self.writes.append(DeleteStage(stage))
            elif not self.paused:
                self.waits.append(f"{stage.name} to become empty")

    def _empty(self, stage: Stage) -> bool:
        uids = {rs.uid for rs in stage.replica_sets}
        return (
            stage.replicas == 0
            and _proven(stage)
            and not any(rs.observed_replicas for rs in stage.replica_sets)
            and not any(
                pod.live and (pod.stage == stage.index or pod.controller_uid in uids)
                for pod in self.snapshot.pods
            )
        )

    def _misplaced(self, surplus_total: int) -> int:
        """Instances beyond what the counts want in their stages."""
        beyond = sum(
            max(0, len(self.assigned[stage.index]) - self._wanted(stage.index))
            for stage in self.snapshot.stages
        )
        return max(0, beyond - surplus_total)

    def _template_fits(self, pod: Pod) -> bool:
        return pod.template_hash == self.snapshot.stages[0].template_hash

    def _note_waits(self) -> None:
        for stage in self.snapshot.stages:
            if not _proven(stage):
                self.waits.append(f"the controllers to follow the replicas of {stage.name}")
        for index, number in self.transit.items():
            where = f"stage {index}" if index is not None else "no stage"
            self.waits.append(f"{number} pods on the way to {where} to be adopted or released")


def _current(stage: Stage) -> ReplicaSet:
    """The stage's ReplicaSet; `_blocked` has made sure that there is one."""
    current = stage.current
    assert current is not None
    return current


def _proven(stage: Stage) -> bool:
    return proven(stage, _current(stage))
