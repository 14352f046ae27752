"""What people do to a running service with kubectl: undone, told with its cost, and no stream lost.

Act after act on one service under traffic. What people end at once is replaced and told; what the
operator can undo it undoes without ending a pod.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.harness.deadline import until
from e2e.harness.kubectl import JsonObject, Kubectl
from e2e.harness.load import RunningLoad
from e2e.harness.platform import Platform
from e2e.harness.podwatch import PodWatch
from e2e.harness.service import PodFacts, Service
from e2e.scenarios.stories import STILL_PLANNING, apply_service, assert_nothing_lost, traffic

pytestmark = pytest.mark.cluster

INSTANCES = 4
BOUNDARIES = [1024]
"""Two stages whose boundary stays where it is."""
RATE = 2.0
"""Requests a second: three instances serve it with ease."""
REQUESTS_BETWEEN = 5
"""So that streams are under way on every instance when the next act comes."""
ACT_SECONDS = 180.0


@dataclass
class Stage:
    """The service, who watches it, and the load that runs on it."""

    service: Service
    watch: PodWatch
    load: RunningLoad
    sent: int = 0
    lost: int = 0
    """Pods that ended so far."""

    @property
    def kubectl(self) -> Kubectl:
        return self.service.kubectl

    @property
    def first(self) -> str:
        """Name of the Deployment of the first stage."""
        return names.stage_name(self.service.name, 0)

    def act(
        self, reason: Reason, *arguments: str, cost: tuple[int, ...] = (0,), words: str = ""
    ) -> None:
        """kubectl with these arguments, and what comes of it: an event, the plan, so many ends."""
        self.sent = self.load.wait_for("sent", self.sent + REQUESTS_BETWEEN)
        before = self._told(reason)
        print(f"kubectl {' '.join(arguments)}", flush=True)
        self.kubectl.run(*arguments)
        told = until(
            f"a new event {reason}",
            lambda: next(iter(self._told(reason) - before), None),
            seconds=ACT_SECONDS,
            seen=lambda: self.service.view().status,
        )
        print(f"  {told}", flush=True)
        self.settle()
        ended = self.watch.lost[self.lost :]
        self.lost += len(ended)
        print(f"  {reason}, ended: {ended}", flush=True)
        assert words in told
        assert len(ended) in cost, ended
        assert all(name in told for name in ended)
        assert (f"{len(ended)} instance" if ended else "no instance was lost") in told

    def settle(self) -> None:
        """The plan again, with pods that are ready."""
        self.service.wait_settled(seconds=ACT_SECONDS)

    def a_pod(self) -> PodFacts:
        """An instance of the first stage."""
        pods = [pod for pod in self.service.pods() if pod.stage == "0" and pod.bound]
        return min(pods, key=lambda pod: pod.name)

    def _told(self, reason: Reason) -> set[str]:
        selector = f"reason={reason},involvedObject.kind={names.KIND}"
        events = self.kubectl.items("events", "--field-selector", selector)
        return {event["message"] for event in events}


@contextmanager
def _stage(platform: Platform, namespace: Kubectl, name: str) -> Iterator[Stage]:
    planning = {**STILL_PLANNING, "boundaries": BOUNDARIES}
    service = apply_service(namespace, name, gpuCount=INSTANCES, planning=planning)
    service.wait_ready(instances=INSTANCES)
    with (
        PodWatch(service) as watch,
        traffic(platform, service, rate=RATE, duration=900) as load,
    ):
        yield Stage(service, watch, load)


def _check(stage: Stage) -> JsonObject:
    """Nothing was lost, and no pod too many ran at any time."""
    stage.load.stop()
    summary = stage.load.summary()
    assert_nothing_lost(summary)
    assert stage.watch.most_bound <= INSTANCES
    assert (stage.watch.restarted, stage.watch.broken) == ([], False)
    return summary


def _patch(**spec: Any) -> str:
    return json.dumps({"spec": spec})


def test_what_people_do_is_undone_and_told_and_costs_no_stream(
    platform: Platform, namespace: Kubectl
) -> None:
    with _stage(platform, namespace, "handled") as stage:
        first, name = f"deployment/{stage.first}", stage.service.name
        pod = stage.a_pod().name
        label = f"{names.LABEL_STAGE}=1"
        # What can be undone ends no pod.
        stage.act(Reason.STAGE_SCALED, "scale", first, "--replicas=5")
        stage.act(Reason.INSTANCE_RELABELLED, "label", "pod", pod, label, "--overwrite")
        stage.act(Reason.STAGE_EDITED, "rollout", "pause", first, words="spec.paused")
        stage.act(Reason.STAGE_DELETED, "delete", first)
        stage.act(Reason.CHILD_DELETED, "delete", "configmap", names.stage_map_name(name))
        selector = ("patch", "service", name, "--type=merge", "-p", _patch(selector={"my": "own"}))
        stage.act(Reason.CHILD_EDITED, *selector, words="spec.selector")
        # What ends pods ends them at once.
        pod = stage.a_pod().name
        stage.act(Reason.INSTANCE_LOST, "delete", "pod", pod, "--wait=false", cost=(1,), words=pod)
        one = ("scale", first, "--replicas=1")
        stage.act(Reason.STAGE_SCALED, *one, cost=(1,))
        image = ("set", "image", first, "engine=localhost/never-built:1")
        stage.act(Reason.STAGE_EDITED, *image, cost=(0, 1), words="containers[engine].image")
        summary = _check(stage)
    print(f"{summary['requestsSent']} requests, {stage.lost} pods ended by hand")
