"""Words that the stories share."""

from contextlib import AbstractContextManager
from typing import Any

from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.load import LoadOptions, RunningLoad, running_load
from e2e.harness.platform import Platform
from e2e.harness.service import Service, manifest

QUICK_PLANNING: JsonObject = {
    "intervalSeconds": 5,
    "windowSeconds": 30,
    "cooldownSeconds": 1,
    "minGainPercent": 1,
}
"""Planning at the pace of a test; everything else as users have it."""
STILL_PLANNING: JsonObject = {**QUICK_PLANNING, "intervalSeconds": 3600, "minGainPercent": 100}
"""No plan changes the instances of a stage: what moves is moved by the story alone."""


LONGEST_ANSWER = 400
"""Tokens, about twelve seconds: pods that leave and loads that end wait for the longest answer."""
AS_RECORDED = 0


def apply_service(kubectl: Kubectl, name: str, **spec: Any) -> Service:
    """Apply a CascadeService of simulated GPUs that plans quickly."""
    spec.setdefault("planning", QUICK_PLANNING)
    kubectl.apply(manifest(name, **spec))
    return Service(kubectl, name)


def traffic(
    platform: Platform,
    service: Service,
    *,
    rate: float,
    duration: float,
    offset: float = 0.0,
    pinned_share: float = 0.0,
    longest_answer: int = LONGEST_ANSWER,
) -> AbstractContextManager[RunningLoad]:
    """The Azure conversation trace at the front Service, from a pod in the cluster."""
    extra = ("--pinned-share", str(pinned_share)) if pinned_share else ()
    return running_load(
        service.kubectl,
        f"load-{service.name}",
        platform.images.engine_simulator,
        LoadOptions(
            url=service.url,
            requests_per_second=rate,
            duration=duration,
            offset=offset,
            longest_answer=longest_answer,
            extra=extra,
        ),
    )


def assert_nothing_lost(summary: JsonObject) -> None:
    """Every request that was sent completed, at the first try, with exactly the tokens of an
    uncut stream."""
    assert summary["requestsSent"] > 0
    assert summary["requestsLost"] == 0, summary
    assert summary["streamsWrong"] == 0, summary
    assert summary["requestsCompleted"] == summary["requestsSent"], summary
    assert summary["retries"] == 0, summary
