"""Kubernetes Events: once per change, with the reasons of the conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cascade_operator import kinds
from cascade_operator.conditions import DEGRADED, METRICS_AVAILABLE, PROGRESSING, READY
from cascade_operator.reasons import Reason
from cascade_operator.spec import ServiceSpec
from cascade_policy import names

Json = Mapping[str, Any]

_TOLD: Final = (READY, DEGRADED, METRICS_AVAILABLE, PROGRESSING)
"""Conditions whose changes are worth an Event; the others follow from these."""
_BAD_WHEN: Final = {READY: "False", DEGRADED: "True", METRICS_AVAILABLE: "False"}
_QUIET: Final = frozenset(
    {Reason.STARTING, Reason.NOT_ASKED_YET, Reason.STARTING_INSTANCES, Reason.SETTLED}
)
_NOTE_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class Happening:
    """Something to tell the user."""

    reason: str
    message: str
    warning: bool


def changes(before: Mapping[str, Json], after: Sequence[Json]) -> tuple[Happening, ...]:
    """What is new in the conditions `after`, compared by type and reason with those `before`."""
    return tuple(
        Happening(
            reason=condition["reason"],
            message=condition["message"],
            warning=_BAD_WHEN.get(condition["type"]) == condition["status"],
        )
        for condition in after
        if condition["type"] in _TOLD
        and condition["reason"] not in _QUIET
        and before.get(condition["type"], {}).get("reason") != condition["reason"]
    )


def event_manifest(
    spec: ServiceSpec, happening: Happening, now: float, reporter: str
) -> dict[str, Any]:
    """An Event about the CascadeService, `now` in unix seconds."""
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "apiVersion": kinds.EVENT.api_version,
        "kind": kinds.EVENT.kind,
        "metadata": {"generateName": f"{spec.name}-", "namespace": spec.namespace},
        "eventTime": when,
        "type": "Warning" if happening.warning else "Normal",
        "reason": happening.reason,
        "action": "Reconcile",
        "note": happening.message[:_NOTE_LIMIT],
        "reportingController": f"{names.DOMAIN}/operator",
        "reportingInstance": reporter[:128],
        "regarding": {
            "apiVersion": kinds.CASCADE_SERVICE.api_version,
            "kind": kinds.CASCADE_SERVICE.kind,
            "name": spec.name,
            "namespace": spec.namespace,
            "uid": spec.uid,
        },
    }
