"""What the operator tells its users: conditions, events and decisions, waited for.

Reasons are named as members of `Reason` and never as text: tests/operator/test_reasons.py reads
from the sources which of them some test expects.
"""

import json
from typing import Any

from cascade_operator.reasons import Reason
from tests.operator.api.conftest import Kubectl, until

LONG_SECONDS = 90.0


async def told(
    kubectl: Kubectl,
    type_: str,
    holds: bool,
    reason: Reason,
    name: str = "demo",
    *,
    words: str = "",
) -> str:
    """Wait until a condition says this, and has `words` in its message; the message."""
    wanted = ("True" if holds else "False", str(reason))

    def says() -> dict[str, Any] | None:
        found = conditions(kubectl, name).get(type_, {})
        told = (found.get("status"), found.get("reason")) == wanted
        return found if told and words in found["message"] else None

    found = await until(f"{name}: {type_} is {wanted}, {words}", says, LONG_SECONDS)
    return str(found["message"])


async def announced(kubectl: Kubectl, reason: Reason, name: str = "demo") -> str:
    """Wait for an event; its words."""

    def event() -> dict[str, Any] | None:
        return next(
            (
                one
                for one in kubectl.items("events")
                if (one["reason"], one["involvedObject"]["name"]) == (reason, name)
            ),
            None,
        )

    return str((await until(f"{name}: an event {reason}", event, LONG_SECONDS))["message"])


async def decided(kubectl: Kubectl, reason: Reason, name: str = "demo") -> dict[str, Any]:
    """Wait until one of the last decisions about the plan has this reason."""

    def decision() -> dict[str, Any] | None:
        entries = kubectl.json("get", "csvc", name).get("status", {}).get("decisions", [])
        return next((one for one in entries if one["reason"] == reason), None)

    return dict(await until(f"{name}: a decision {reason}", decision, LONG_SECONDS))


def conditions(kubectl: Kubectl, name: str = "demo") -> dict[str, dict[str, Any]]:
    """The conditions by their type."""
    status = kubectl.json("get", "csvc", name).get("status", {})
    return {entry["type"]: entry for entry in status.get("conditions", [])}


def change(kubectl: Kubectl, name: str = "demo", **spec: Any) -> None:
    """Merge into the spec."""
    kubectl("patch", "csvc", name, "--type=merge", "-p", json.dumps({"spec": spec}))
