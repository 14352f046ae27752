"""Which warm pods a stage has, may get or may still lose, and what its controllers have seen."""

from cascade_operator.snapshot import Pod, ReplicaSet, Snapshot, Stage


def adopts(rs: ReplicaSet, stage: Stage, pod: Pod) -> bool:
    """Whether the ReplicaSet's selector matches the pod."""
    return pod.stage == stage.index and pod.pod_template_hash == rs.pod_template_hash


def held(snapshot: Snapshot, rs: ReplicaSet, stage: Stage) -> int:
    """Warm pods that the ReplicaSet owns or may adopt: what its replicas must never fall below."""
    return sum(
        1
        for pod in snapshot.pods
        if pod.warm and (pod.controller_uid == rs.uid or adopts(rs, stage, pod))
    )


def proven(stage: Stage, rs: ReplicaSet) -> bool:
    """Whether the controllers have observed the stage's present number of replicas."""
    return (
        stage.observed_generation >= stage.generation
        and rs.replicas == stage.replicas
        and rs.observed_generation >= rs.generation
    )
