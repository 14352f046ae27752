"""An in-memory cluster whose controllers act on old views, for the property test of the moves.

Every controller keeps its own cache per kind. A cache follows the history of its kind in order but
lags behind by any number of changes, independently of the other kinds, as informers do. The rules
of the ReplicaSet and Deployment controllers are those of Kubernetes: expectations, adoption and
release by labels, and deletion of unassigned pods before all others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from cascade_operator.moves import (
    CreateStage,
    DeletePod,
    DeleteStage,
    MovePod,
    ReleasePod,
    SetReplicas,
    Write,
)
from cascade_operator.snapshot import STAGE_LEAVING, Pod, ReplicaSet, Snapshot, Stage

TEMPLATE = "template"
SERVICE_UID = "service"


class Conflict(Exception):
    """The object is not what the write was meant for."""


@dataclass(frozen=True)
class Deployment:
    name: str
    uid: str
    index: int
    replicas: int
    generation: int = 1
    observed_generation: int = 0
    version: int = 0


@dataclass(frozen=True)
class Set:
    name: str
    uid: str
    index: int
    owner: str | None
    replicas: int
    generation: int = 1
    observed_generation: int = 0
    observed_replicas: int = 0
    version: int = 0


@dataclass(frozen=True)
class Unit:
    """A pod."""

    name: str
    uid: str
    stage: str | None
    hash: str
    owner: str | None
    gated: bool = True
    bound: bool = False
    deleting: bool = False
    version: int = 0


@dataclass
class Store:
    """Live objects of one kind, and the history that caches follow."""

    objects: dict[str, Any] = field(default_factory=dict)
    history: list[tuple[str, Any]] = field(default_factory=list)

    def put(self, item: Any) -> Any:
        item = replace(item, version=len(self.history) + 1)
        self.objects[item.name] = item
        self.history.append((item.name, item))
        return item

    def drop(self, name: str) -> None:
        if self.objects.pop(name, None) is not None:
            self.history.append((name, None))

    def guarded(self, item: Any) -> Any:
        """The live object, if it still is exactly `item`."""
        live = self.objects.get(item.name)
        if live is None or live.uid != item.uid or live.version != item.version:
            raise Conflict
        return live


@dataclass
class Cache:
    """One controller's view of one kind."""

    store: Store
    objects: dict[str, Any] = field(default_factory=dict)
    cursor: int = 0
    seen: set[str] = field(default_factory=set)
    """Every uid that was ever delivered: expectations count events, not what is left of them."""

    @property
    def behind(self) -> int:
        return len(self.store.history) - self.cursor

    def advance(self, changes: int) -> None:
        for name, item in self.store.history[self.cursor : self.cursor + changes]:
            if item is None:
                self.objects.pop(name, None)
            else:
                self.objects[name] = item
                self.seen.add(item.uid)
            self.cursor += 1


class World:
    """The cluster. `pick` chooses among n possibilities: hypothesis, or anything fair."""

    def __init__(self, instances: int, pick: Callable[[int], int]) -> None:
        self.pick = pick
        self.instances = instances
        self.deployments, self.sets, self.pods = Store(), Store(), Store()
        self.caches = {
            "deployment/deployments": Cache(self.deployments),
            "deployment/sets": Cache(self.sets),
            "replicaset/sets": Cache(self.sets),
            "replicaset/pods": Cache(self.pods),
        }
        self.expected: dict[str, tuple[set[str], set[str]]] = {}
        self.quota: int | None = None
        self.warm_pods_killed: list[str] = []
        self.most_bound = 0
        self._serial = 0

    # Controllers.

    def sync_deployment(self, name: str) -> None:
        deployment = self.caches["deployment/deployments"].objects.get(name)
        if deployment is None or name not in self.deployments.objects:
            return
        own = [
            item
            for item in self.caches["deployment/sets"].objects.values()
            if item.owner == deployment.uid
        ]
        if not own:
            self._make_set(deployment)
        elif own[0].replicas != deployment.replicas:
            live = self.sets.objects.get(own[0].name)
            if live is None or live.version != own[0].version:
                return
            self.sets.put(
                replace(live, replicas=deployment.replicas, generation=live.generation + 1)
            )
        live = self.deployments.objects[name]
        if live.uid == deployment.uid and live.observed_generation < deployment.generation:
            self.deployments.put(replace(live, observed_generation=deployment.generation))

    def _make_set(self, deployment: Deployment) -> None:
        name = f"{deployment.name}-h{deployment.index}"
        live = self.sets.objects.get(name)
        if live is None:
            self.sets.put(
                Set(name, self._uid(), deployment.index, deployment.uid, deployment.replicas)
            )

    def sync_set(self, name: str) -> None:
        seen = self.caches["replicaset/sets"].objects.get(name)
        if seen is None:
            return
        owned = self._claim(seen)
        born, dead = self.expected.setdefault(seen.uid, (set(), set()))
        cache = self.caches["replicaset/pods"]
        born -= cache.seen
        dead &= {pod.uid for pod in cache.objects.values() if not pod.deleting}
        if not born and not dead and name in self.sets.objects:
            self._manage(seen, owned)
        live = self.sets.objects.get(name)
        status = {"observed_generation": seen.generation, "observed_replicas": len(owned)}
        if live is not None and live.uid == seen.uid:
            updated = replace(live, **status)
            if updated != live:
                self.sets.put(updated)

    def _claim(self, owner: Set) -> list[Unit]:
        owned = []
        for seen in list(self.caches["replicaset/pods"].objects.values()):
            if seen.deleting:
                continue
            matches = seen.stage == str(owner.index) and seen.hash == f"h{owner.index}"
            if seen.owner == owner.uid and matches:
                owned.append(seen)
                continue
            live: Unit | None = self.pods.objects.get(seen.name)
            if live is None or live.uid != seen.uid:
                continue
            if seen.owner == owner.uid and live.owner == owner.uid:
                self.pods.put(replace(live, owner=None))
            elif seen.owner is None and matches and owner.name in self.sets.objects:
                if live.owner is None and not live.deleting:
                    self.pods.put(replace(live, owner=owner.uid))
                    owned.append(seen)
                elif live.owner == owner.uid:
                    owned.append(seen)
        return owned

    def _manage(self, owner: Set, owned: list[Unit]) -> None:
        born, dead = self.expected[owner.uid]
        for _ in range(owner.replicas - len(owned)):
            if self.quota is not None and len(self.pods.objects) >= self.quota:
                break
            uid = self._uid()
            stage, hash_ = str(owner.index), f"h{owner.index}"
            self.pods.put(Unit(f"pod-{uid}", uid, stage, hash_, owner.uid))
            born.add(uid)
        surplus = len(owned) - owner.replicas
        # Unassigned pods first, by the controller's view of them; among equals any.
        ranked = sorted(owned, key=lambda pod: (pod.bound, self.pick(3)))
        for seen in ranked[: max(0, surplus)]:
            dead.add(seen.uid)
            live = self.pods.objects.get(seen.name)
            if live is not None and live.uid == seen.uid:
                # One that its controller still takes for unassigned has only just been started.
                if seen.bound and not live.deleting:
                    self.warm_pods_killed.append(live.name)
                self.delete_pod(live)

    def collect_garbage(self) -> None:
        """Sets without Deployment go; pods lose owners that are gone, and live on by the second."""
        alive = {item.uid for item in self.deployments.objects.values()}
        for item in list(self.sets.objects.values()):
            if item.owner not in alive:
                self.sets.drop(item.name)
        owners = {item.uid for item in self.sets.objects.values()}
        for pod in list(self.pods.objects.values()):
            if pod.owner is not None and pod.owner not in owners:
                if pod.gated:
                    self.pods.drop(pod.name)
                else:
                    self.pods.put(replace(pod, owner=None))

    def run_nodes(self) -> None:
        """Ungated pods get a node, dying ones end."""
        for pod in list(self.pods.objects.values()):
            if pod.deleting:
                self.pods.drop(pod.name)
            elif not pod.gated and not pod.bound:
                self.pods.put(replace(pod, bound=True))
        bound = sum(1 for pod in self.pods.objects.values() if pod.bound)
        self.most_bound = max(self.most_bound, bound)

    # What people and the operator do.

    def delete_pod(self, pod: Unit) -> None:
        if pod.bound:
            self.pods.put(replace(pod, deleting=True))
        else:
            self.pods.drop(pod.name)

    def snapshot(self, between: Callable[[], None] = lambda: None) -> Snapshot:
        """LIST of Deployments and sets, something in `between`, LIST of pods."""
        deployments = list(self.deployments.objects.values())
        sets = list(self.sets.objects.values())
        between()
        pods = list(self.pods.objects.values())
        stages = [_stage(item, sets) for item in deployments]
        return Snapshot(
            stages=tuple(sorted(stages, key=lambda stage: stage.index)),
            pods=tuple(sorted((_pod(item) for item in pods), key=lambda pod: pod.name)),
        )

    def lift(self, pod: Pod) -> None:
        live = self._live(pod)
        self.pods.put(replace(live, gated=False))

    def perform(self, write: Write) -> None:
        """Raises Conflict where the API server would."""
        match write:
            case CreateStage(index, replicas):
                name = f"stage-{index}"
                if name in self.deployments.objects:
                    raise Conflict
                self.deployments.put(Deployment(name, self._uid(), index, replicas))
            case SetReplicas(stage, replicas):
                live = self.deployments.guarded(_guard(stage))
                self.deployments.put(
                    replace(live, replicas=replicas, generation=live.generation + 1)
                )
            case MovePod(pod, index, hash_):
                self.pods.put(replace(self._live(pod), stage=str(index), hash=hash_))
            case ReleasePod(pod):
                self.pods.put(replace(self._live(pod), stage=STAGE_LEAVING))
            case DeletePod(pod):
                self.delete_pod(self._live(pod))
            case DeleteStage(stage):
                self.deployments.guarded(_guard(stage))
                self.deployments.drop(stage.name)

    def _live(self, pod: Pod) -> Unit:
        live: Unit | None = self.pods.objects.get(pod.name)
        if live is None or live.uid != pod.uid or str(live.version) != pod.resource_version:
            raise Conflict
        return live

    def _uid(self) -> str:
        self._serial += 1
        return f"u{self._serial}"

    # Everything at once, as it is when nothing lags.

    def catch_up(self) -> None:
        for cache in self.caches.values():
            cache.advance(cache.behind)
        for name in list(self.deployments.objects):
            self.sync_deployment(name)
        for name in list(self.sets.objects):
            self.sync_set(name)
        self.collect_garbage()
        self.run_nodes()


@dataclass(frozen=True)
class _guard:  # noqa: N801
    """What `guarded` compares, read off the operator's own record."""

    stage: Stage

    @property
    def name(self) -> str:
        return self.stage.name

    @property
    def uid(self) -> str:
        return self.stage.uid

    @property
    def version(self) -> int:
        return int(self.stage.resource_version)


def _stage(item: Deployment, sets: list[Set]) -> Stage:
    return Stage(
        index=item.index,
        name=item.name,
        uid=item.uid,
        resource_version=str(item.version),
        generation=item.generation,
        observed_generation=item.observed_generation,
        replicas=item.replicas,
        revision=1,
        template_hash=TEMPLATE,
        deleting=False,
        replica_sets=tuple(
            ReplicaSet(
                name=one.name,
                uid=one.uid,
                deployment_uid=one.owner,
                pod_template_hash=f"h{one.index}",
                template_hash=TEMPLATE,
                revision=1,
                generation=one.generation,
                observed_generation=one.observed_generation,
                replicas=one.replicas,
                observed_replicas=one.observed_replicas,
                failure=None,
            )
            for one in sets
            if one.owner == item.uid
        ),
    )


def _pod(item: Unit) -> Pod:
    owners = {SERVICE_UID} | ({item.owner} if item.owner else set())
    return Pod(
        name=item.name,
        uid=item.uid,
        resource_version=str(item.version),
        stage_label=item.stage,
        pod_template_hash=item.hash,
        template_hash=TEMPLATE,
        controller_uid=item.owner,
        owners=frozenset(owners),
        gated=item.gated,
        deleting=item.deleting,
        ended=False,
        bound=item.bound,
        ready=item.bound,
        placed=not item.gated,
        length_range=None,
        router_running=item.bound,
        trouble=None,
    )
