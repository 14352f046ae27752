"""What others did to stages and instances, and what it cost: people, drains, other controllers.

Pure: what was known, a snapshot and the time in; what is known then, and what is to be told, out.
An act is told once, as soon as its cost is known: when the cluster is in order again, or after
COST_SECONDS. Instances that end while an act on their stage is open are its cost. The others are
told as lost, one look after they are missed: a snapshot reads pods last, so the act that explains
a loss may be seen only then.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cascade_operator.act_words import Loss, of_act, of_losses, of_restart, of_taken_out
from cascade_operator.acts import Act, deleted, relabelled, rescaled, restarted
from cascade_operator.events import Happening
from cascade_operator.holdings import proven
from cascade_operator.moves import DeletePod, DeleteStage, MovePod, ReleasePod, Write
from cascade_operator.reasons import Reason
from cascade_operator.rollout import rolling
from cascade_operator.snapshot import STAGE_LEAVING, Pod, Snapshot, Stage

Json = Mapping[str, Any]
Labels = tuple[str | None, str | None, str | None]
"""A pod's stage label, its pod-template-hash and its service: together they say whose it is."""

COST_SECONDS: Final = 30.0
_MOST_QUESTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Known:
    """An instance as it was seen last."""

    name: str
    stage: int | None
    service: str | None
    labels: frozenset[Labels]
    """What it may carry without the doing of others."""

    @property
    def leaving(self) -> bool:
        """Whether the operator took it out of its stage, to remove it."""
        return any(stage == STAGE_LEAVING for stage, _, _ in self.labels)


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was seen last, and what is not told yet."""

    instances: Mapping[str, Known] = field(default_factory=dict)
    """Warm pods by uid."""
    stages: Mapping[int, Stage] = field(default_factory=dict)
    rolling: frozenset[int] = frozenset()
    """Stages that rolled out a template."""
    ours: frozenset[str] = frozenset()
    """Uids of what the operator itself deletes."""
    acts: tuple[Act, ...] = ()
    unexplained: tuple[Loss, ...] = ()

    def expecting(self, writes: Iterable[Write]) -> "Ledger":
        """The same, with what the operator is about to do itself."""
        known, ours = dict(self.instances), set(self.ours)
        for write in writes:
            match write:
                case MovePod(pod, stage, hash_):
                    _allow(known, pod, (str(stage), hash_, pod.service))
                case ReleasePod(pod):
                    _allow(known, pod, (STAGE_LEAVING, pod.pod_template_hash, pod.service))
                case DeletePod(pod):
                    ours.add(pod.uid)
                case DeleteStage(stage):
                    ours.add(stage.uid)
        return replace(self, instances=known, ours=frozenset(ours))


def questions(ledger: Ledger | None, snapshot: Snapshot) -> tuple[str, ...]:
    """Names of pods of which a list does not tell enough: they are to be read by name."""
    if ledger is None:
        return ()
    present = {pod.uid: pod for pod in snapshot.pods}
    odd = [
        known.name
        for uid, known in ledger.instances.items()
        if uid not in ledger.ours
        and not known.leaving
        and (uid not in present or _relabelled(known, present[uid]))
    ]
    return tuple(odd[:_MOST_QUESTIONS])


def look(
    ledger: Ledger | None,
    snapshot: Snapshot,
    counts: Sequence[int],
    edits: Sequence[Act],
    answers: Mapping[str, Json],
    now: float,
) -> tuple[Ledger, tuple[Happening, ...]]:
    """What is known after this snapshot, and what is to be told.

    `counts` are the instances per stage that the plan wants, `edits` what was undone since the
    snapshot, `answers` the pods that were asked for, by uid: those that are gone are not among
    them. Whoever knows nothing yet tells of nothing but replicas that others have set and that the
    plan does not want.
    """
    opened = [*_opened(ledger, snapshot, counts, answers, now), *edits]
    acts = _joined(ledger.acts if ledger else (), opened)
    missed, taken_out = _missed(ledger, snapshot, answers) if ledger else ((), ())
    acts, missed = _explained(acts, missed)
    acts, lost = _explained(acts, ledger.unexplained if ledger else ())
    over = [act for act in acts if _over(act, snapshot, now)]
    told = [
        *(of_restart(act) for act in opened if act.reason is Reason.STAGE_RESTARTED),
        *(of_act(act) for act in over if act.reason is not Reason.STAGE_RESTARTED),
        *taken_out,
        *of_losses(loss for loss in lost if loss.certain or not loss.rolled),
    ]
    after = _seen(snapshot, ledger or Ledger())
    still = tuple(act for act in acts if act not in over)
    return replace(after, acts=still, unexplained=missed), tuple(told)


# What is known.


def _seen(snapshot: Snapshot, before: Ledger) -> Ledger:
    present = {stage.uid for stage in snapshot.stages}
    if before.ours:
        present.update(pod.uid for pod in snapshot.pods)
    return Ledger(
        instances={
            pod.uid: _known(before.instances.get(pod.uid), pod) for pod in snapshot.pods if pod.warm
        },
        stages={stage.index: stage for stage in snapshot.stages},
        rolling=_rolling(snapshot),
        ours=before.ours & present,
    )


def _known(before: Known | None, pod: Pod) -> Known:
    """A thousand that stayed what they were need not be made anew."""
    labels = frozenset({_labels(pod)})
    if before is not None and before.labels == labels:
        return before
    if before is not None and before.service != pod.service:
        # The operator puts the label back.
        labels |= {(pod.stage_label, pod.pod_template_hash, before.service)}
        return Known(pod.name, pod.stage, before.service, labels)
    return Known(pod.name, pod.stage, pod.service, labels)


def _rolling(snapshot: Snapshot) -> frozenset[int]:
    return frozenset(stage.index for stage in snapshot.stages if rolling(stage, snapshot))


def _labels(pod: Pod) -> Labels:
    return pod.stage_label, pod.pod_template_hash, pod.service


def _allow(known: dict[str, Known], pod: Pod, labels: Labels) -> None:
    if pod.uid in known:
        before = known[pod.uid]
        known[pod.uid] = replace(before, labels=before.labels | {labels})


def _relabelled(known: Known, pod: Pod) -> bool:
    return pod.warm and _labels(pod) not in known.labels


# What was done.


def _opened(
    ledger: Ledger | None,
    snapshot: Snapshot,
    counts: Sequence[int],
    answers: Mapping[str, Json],
    now: float,
) -> list[Act]:
    if ledger is None:
        return [act for stage in snapshot.stages for act in rescaled(None, stage, counts, now)]
    found: list[Act] = []
    for stage in snapshot.stages:
        before = ledger.stages.get(stage.index)
        if before is None or before.uid != stage.uid:
            continue
        found.extend(rescaled(before, stage, counts, now))
        if stage.restarted_at not in ("", before.restarted_at):
            found.append(restarted(stage, now))
    found.extend(
        deleted(before, now)
        for before in ledger.stages.values()
        if before.uid not in ledger.ours and _ends(before, snapshot.stage(before.index))
    )
    found.extend(
        relabelled(known.stage, known.service, pod, answers.get(pod.uid), now)
        for pod in snapshot.pods
        if (known := ledger.instances.get(pod.uid)) is not None and _relabelled(known, pod)
    )
    return found


def _ends(before: Stage, stage: Stage | None) -> bool:
    return stage is None or stage.uid != before.uid or (stage.deleting and not before.deleting)


def _joined(acts: tuple[Act, ...], opened: Iterable[Act]) -> tuple[Act, ...]:
    """An act of the same words that is still open is the same one."""
    present = {(act.reason, act.what) for act in acts}
    return (*acts, *(act for act in opened if (act.reason, act.what) not in present))


# What it cost.


def _missed(
    ledger: Ledger, snapshot: Snapshot, answers: Mapping[str, Json]
) -> tuple[tuple[Loss, ...], list[Happening]]:
    """Instances that were there at the last look and end or are gone, and those taken out."""
    present = {pod.uid: pod for pod in snapshot.pods}
    rolls = ledger.rolling | _rolling(snapshot)
    missed, taken_out = [], []
    for uid, known in ledger.instances.items():
        pod = present.get(uid)
        if uid in ledger.ours or known.leaving or (pod is not None and pod.warm):
            continue
        answer = answers.get(uid)
        if pod is None and answer is not None and "deletionTimestamp" not in answer["metadata"]:
            taken_out.append(of_taken_out(known.name, answer))
        else:
            missed.append(replace(_loss(known, pod, answer), rolled=known.stage in rolls))
    return tuple(missed), taken_out


def _loss(known: Known, pod: Pod | None, answer: Json | None) -> Loss:
    if pod is not None and pod.disruption is not None:
        cause = f"{pod.disruption.kind}: {pod.disruption.message}"
        return Loss(known.name, known.stage, f"the cluster ended {{}} ({cause})", certain=True)
    if pod is None and answer is None:
        how = "{} went at once, deleted or lost with its node"
        return Loss(known.name, known.stage, how)
    return Loss(known.name, known.stage, "somebody deleted {}")


def _explained(
    acts: tuple[Act, ...], losses: tuple[Loss, ...]
) -> tuple[tuple[Act, ...], tuple[Loss, ...]]:
    """Acts with their cost, and the losses that are not by them."""
    found, rest = list(acts), []
    for loss in losses:
        fits = [at for at, act in enumerate(found) if loss.stage in act.stages]
        if fits and not loss.certain:
            act = found[fits[-1]]
            found[fits[-1]] = replace(act, lost=(*act.lost, loss.name))
        else:
            rest.append(loss)
    return tuple(found), tuple(rest)


def _over(act: Act, snapshot: Snapshot, now: float) -> bool:
    """Whether all that can come of an act has come."""
    if act.since >= now:
        return False
    if now - act.since > COST_SECONDS and act.reason is not Reason.STAGE_RESTARTED:
        return True
    if act.reason is Reason.INSTANCE_RELABELLED:
        pod = next((pod for pod in snapshot.pods if pod.name == act.subject and pod.warm), None)
        return pod is None or _at_home(pod, snapshot)
    stages = [snapshot.stage(index) for index in act.stages]
    return all(stage is not None and _in_order(stage, snapshot) for stage in stages)


def _in_order(stage: Stage, snapshot: Snapshot) -> bool:
    """Whether the controllers have done what the Deployment asks for, and all know their owner."""
    current = stage.current
    return (
        not stage.deleting
        and current is not None
        and proven(stage, current)
        and not rolling(stage, snapshot)
        and all(
            _at_home(pod, snapshot)
            for pod in snapshot.pods
            if pod.warm and pod.stage == stage.index
        )
    )


def _at_home(pod: Pod, snapshot: Snapshot) -> bool:
    stage = snapshot.stage(pod.stage)
    current = stage.current if stage is not None else None
    return current is not None and pod.controller_uid == current.uid
