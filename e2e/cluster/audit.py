"""What service accounts ask of an API server, as its audit log tells."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

POLICY: Final[Mapping[str, Any]] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}
"""An audit policy: who asked for what, no bodies; service accounts only, the cluster's own not."""
READS: Final = frozenset({"get", "list", "watch"})
_ACCOUNT: Final = "system:serviceaccount:"
_POD: Final = "authentication.kubernetes.io/pod-name"


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """A verb on a kind of objects; `resource` may end in a subresource, as in `pods/log`."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a service account for objects of the API."""

    namespace: str
    """Of the account."""
    account: str
    right: Right
    forbidden: bool
    """Whether it lacked the right; a refusal by admission is something else."""
    within: str = ""
    """Namespace of the object; empty for the whole cluster."""
    name: str = ""
    """Of the object; empty for collections, and for objects that get their name when created."""
    pod: str = ""
    """Name of the pod whose token was used, empty for other tokens."""
    status: int = 0
    """Of the answer, by the numbers of HTTP; 0 where there was none."""
    at: float = 0.0
    """Unix seconds at which it was received."""

    @property
    def wrote(self) -> bool:
        """Whether it may have changed something: not a read, and not refused."""
        return self.right.verb not in READS and self.status < 300


def requests_of(lines: Iterable[str]) -> list[Request]:
    """The requests in an audit log; questions about the API itself are left out. A last line that
    is not complete yet is passed over."""
    found = []
    for line in lines:
        if not line.endswith("\n"):
            continue
        event = json.loads(line)
        user, target = event["user"]["username"], event.get("objectRef")
        if target is None or not user.startswith(_ACCOUNT):
            continue
        namespace, _, account = user.removeprefix(_ACCOUNT).partition(":")
        decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
        found.append(
            Request(
                namespace,
                account,
                _right(target, event["verb"]),
                decision == "forbid",
                within=target.get("namespace", ""),
                name=target.get("name", ""),
                pod="".join(event["user"].get("extra", {}).get(_POD, ())),
                status=event.get("responseStatus", {}).get("code", 0),
                at=_seconds(event.get("requestReceivedTimestamp")),
            )
        )
    return found


def used(requests: Iterable[Request]) -> Counter[Right]:
    """How often each right was used."""
    return Counter(request.right for request in requests if not request.forbidden)


def granted(rules: Iterable[Mapping[str, Any]]) -> set[Right]:
    """The rights that the rules of Roles give, names of objects aside."""
    return {
        Right(group, resource, verb)
        for rule in rules
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
    }


def _right(target: Mapping[str, Any], verb: str) -> Right:
    resource = target["resource"]
    if target.get("subresource"):
        resource = f"{resource}/{target['subresource']}"
    return Right(target.get("apiGroup", ""), resource, verb)


def _seconds(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0
