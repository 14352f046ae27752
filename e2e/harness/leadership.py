"""Which of the operator's processes leads, as its Lease says."""

from dataclasses import dataclass
from datetime import datetime

from e2e.harness.deadline import until
from e2e.harness.kubectl import Kubectl, KubectlFailed
from e2e.harness.platform import OPERATOR_SELECTOR

LEASE = "cascade-operator"


@dataclass(frozen=True)
class Candidate:
    """One pod of the operator."""

    name: str
    uid: str
    ready: bool
    restarts: int


@dataclass(frozen=True)
class Term:
    """A leadership."""

    holder: str
    """Name of the pod, empty where nobody leads."""
    acquired: float
    """Unix seconds of the holder's clock."""


def term(system: Kubectl) -> Term:
    """What the Lease says."""
    spec = system.get("lease", LEASE)["spec"]
    acquired = datetime.fromisoformat(spec["acquireTime"]).timestamp()
    return Term(spec.get("holderIdentity") or "", acquired)


def candidates(system: Kubectl) -> dict[str, Candidate]:
    """The operator's pods by name, without those that end."""
    found = {}
    for pod in system.items("pods", "-l", OPERATOR_SELECTOR):
        metadata, status = pod["metadata"], pod["status"]
        if "deletionTimestamp" not in metadata:
            containers = status.get("containerStatuses", [])
            found[metadata["name"]] = Candidate(
                name=metadata["name"],
                uid=metadata["uid"],
                ready=bool(containers) and all(one["ready"] for one in containers),
                restarts=sum(one["restartCount"] for one in containers),
            )
    return found


def wait_for_pair(system: Kubectl, *, seconds: float = 90.0) -> tuple[Candidate, Candidate]:
    """Wait until there are two, and one of them leads: the leader and the standby."""

    def probe() -> tuple[Candidate, Candidate] | None:
        try:
            pods, holder = candidates(system), term(system).holder
        except KubectlFailed:
            return None
        if len(pods) != 2 or not all(pod.ready for pod in pods.values()) or holder not in pods:
            return None
        leader = pods.pop(holder)
        return leader, next(iter(pods.values()))

    return until(
        "two operators, one of which leads",
        probe,
        seconds=seconds,
        seen=lambda: (candidates(system), term(system)),
    )


def wait_for_leader(system: Kubectl, name: str, *, seconds: float) -> Term:
    """Wait until this pod leads."""

    def probe() -> Term | None:
        found = term(system)
        return found if found.holder == name else None

    return until(f"{name} leads", probe, seconds=seconds, every=0.05, seen=lambda: term(system))
