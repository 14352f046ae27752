"""What people do to a running service with kubectl, against real controllers: undone and told."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cascade_operator.reasons import Reason
from cascade_policy import names
from e2e.cluster import ApiServer
from tests.operator.api.conftest import Kubectl, kubelet, operator, until
from tests.operator.api.demo import demo
from tests.operator.api.kubelet import Kubelet
from tests.operator.api.test_crd import manifest
from tests.operator.api.test_operator import pods, settled

pytestmark = pytest.mark.api_server

STAGE = "demo-stage-0"
TWO_STAGES = {"boundaries": [1024]}


def told(kubectl: Kubectl, reason: Reason) -> list[str]:
    """Messages of the events with this reason, in any order."""
    selector = f"reason={reason},involvedObject.kind={names.KIND}"
    return [event["message"] for event in kubectl.items("events", "--field-selector", selector)]


async def _tell(kubectl: Kubectl, reason: Reason) -> str:
    """The one event of this reason."""
    messages = await until(f"an event {reason}", lambda: told(kubectl, reason))
    assert len(messages) == 1, messages
    print(f"{reason}: {messages[0]}")
    return str(messages[0])


def _forget(kubectl: Kubectl, reason: Reason) -> None:
    """Delete what was told for this reason."""
    kubectl("delete", "events", "--field-selector", f"reason={reason}")


def _running(kubectl: Kubectl) -> list[Any]:
    """Pods on a node."""
    return [pod for pod in kubectl.items("pods") if pod["spec"].get("nodeName")]


def _template(kubectl: Kubectl) -> Any:
    return kubectl.json("get", "deployment", STAGE)["spec"]["template"]


def _patch(kubectl: Kubectl, kind: str, name: str, **spec: Any) -> None:
    patch = json.dumps({"spec": spec})
    kubectl("patch", kind, name, "--type=merge", "-p", patch)


def _a_pod(kubectl: Kubectl, stage: str = "0") -> str:
    return str(kubectl.items("pods", "-l", f"{names.LABEL_STAGE}={stage}")[0]["metadata"]["name"])


@dataclass(frozen=True)
class People:
    """They do something to `demo`, of five instances in two stages, and see what becomes of it."""

    kubectl: Kubectl
    node: Kubelet
    template: Any
    """Of the first stage's Deployment."""

    @classmethod
    async def of(cls, kubectl: Kubectl, node: Kubelet) -> "People":
        await until("two stages", lambda: settled(kubectl, 3, 2))
        return cls(kubectl, node, _template(kubectl))

    async def undone(self, act: Callable[[], object], reason: Reason, *words: str) -> None:
        """What they do is told with these words, and costs nothing."""
        warm = pods(self.kubectl)
        await self._told(act, reason, *words, "no instance was lost")
        assert pods(self.kubectl) == warm
        assert _template(self.kubectl) == self.template
        assert self.node.killed == set()

    async def replaced(self, act: Callable[[], object], reason: Reason, *words: str) -> None:
        """What they do is told with these words, and with the instances that ended by it."""
        killed, served = set(self.node.killed), _names(self.kubectl)
        message = await self._told(act, reason, *words)
        # One that was lifted an instant ago may end unseen: it has not served.
        ended = {served[uid] for uid in served.keys() & (self.node.killed - killed)}
        print(f"{len(ended)} instances ended")
        told_of = set(re.findall(r"demo-stage-\d-[a-z0-9]+-[a-z0-9]+", message))
        assert ended <= told_of or f"{len(ended)} instance" in message, ended
        assert not ended or "no instance" not in message
        assert not told_of & set(_names(self.kubectl).values()), "one of them is still there"

    async def _told(self, act: Callable[[], object], reason: Reason, *words: str) -> str:
        act()
        message = await _tell(self.kubectl, reason)
        for word in words:
            assert word in message
        await until("the plan again", lambda: settled(self.kubectl, 3, 2))
        return message


def _names(kubectl: Kubectl) -> dict[str, str]:
    """Names of pods by their uid, without those that end."""
    found = (pod["metadata"] for pod in kubectl.items("pods"))
    return {one["uid"]: one["name"] for one in found if "deletionTimestamp" not in one}


async def test_what_people_change_is_undone_without_ending_a_pod(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=5, planning=TWO_STAGES) as node:
        people = await People.of(kubectl, node)
        await people.undone(
            lambda: kubectl("scale", "deployment", STAGE, "--replicas=6"),
            Reason.STAGE_SCALED,
            f"kubectl scaled Deployment {STAGE} from 3 to 6",
        )
        name = _a_pod(kubectl)
        await people.undone(
            lambda: kubectl("label", "pod", name, f"{names.LABEL_STAGE}=1", "--overwrite"),
            Reason.INSTANCE_RELABELLED,
            f"kubectl-label changed the label {names.LABEL_STAGE} of pod {name} from 0 to 1",
        )
        _forget(kubectl, Reason.INSTANCE_RELABELLED)
        await people.undone(
            lambda: kubectl("label", "pod", name, f"{names.LABEL_SERVICE}-"),
            Reason.INSTANCE_RELABELLED,
            f"changed the label {names.LABEL_SERVICE} of pod {name} from demo to nothing",
        )
        await people.undone(
            lambda: kubectl("rollout", "pause", "deployment", STAGE),
            Reason.STAGE_EDITED,
            f"kubectl-rollout edited Deployment {STAGE} (spec.paused)",
        )
        await people.undone(
            lambda: kubectl("delete", "deployment", STAGE),
            Reason.STAGE_DELETED,
            f"somebody deleted Deployment {STAGE}",
        )
        await people.undone(
            lambda: kubectl("delete", "configmap", names.stage_map_name("demo")),
            Reason.CHILD_DELETED,
            f"somebody deleted ConfigMap {names.stage_map_name('demo')}",
        )
        await people.undone(
            lambda: _patch(kubectl, "service", "demo", selector={"app": "mine"}),
            Reason.CHILD_EDITED,
            "kubectl-patch edited Service demo (spec.selector)",
        )
        selector = kubectl.json("get", "service", "demo")["spec"]["selector"]
        assert set(selector) == {names.LABEL_SERVICE, names.LABEL_SERVICE_UID}
        _forget(kubectl, Reason.CHILD_DELETED)
        await people.undone(
            lambda: kubectl("delete", "service", "demo"),
            Reason.CHILD_DELETED,
            "somebody deleted Service demo",
        )
        assert kubectl.json("get", "service", "demo")["spec"]["selector"] == selector
        assert told(kubectl, Reason.INSTANCE_LOST) == []


async def test_what_people_end_is_replaced_and_the_cost_is_told(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=5, planning=TWO_STAGES) as node:
        people = await People.of(kubectl, node)
        name = _a_pod(kubectl)
        await people.replaced(
            lambda: kubectl("delete", "pod", name, "--wait=false"),
            Reason.INSTANCE_LOST,
            name,
            "deleted",
        )
        await people.replaced(
            lambda: kubectl("scale", "deployment", STAGE, "--replicas=1"),
            Reason.STAGE_SCALED,
            f"kubectl scaled Deployment {STAGE} from 3 to 1",
        )
        await people.replaced(
            lambda: kubectl("set", "image", f"deployment/{STAGE}", "engine=example.org/mine:1"),
            Reason.STAGE_EDITED,
            f"kubectl-set edited Deployment {STAGE}",
            "containers[engine].image",
        )
        assert _template(kubectl) == people.template
        images = {pod["spec"]["containers"][0]["image"] for pod in kubectl.items("pods")}
        assert images == {"example.org/engine-simulator:1"}
        restarting = pods(kubectl)
        await people.replaced(
            lambda: kubectl("rollout", "restart", "deployment", STAGE),
            Reason.STAGE_RESTARTED,
            f"kubectl-rollout restarted Deployment {STAGE}",
            "its 3 instances are replaced one after the other",
        )
        kept = {uid for uid, stage in restarting.items() if stage == "1"}
        await until("all of the stage replaced", lambda: (
            pods(kubectl).keys() & restarting.keys() == kept and settled(kubectl, 3, 2)
        ))  # fmt: skip
        assert len(told(kubectl, Reason.INSTANCE_LOST)) == 1
        assert node.most_bound <= 5


async def test_a_pod_that_is_taken_out_of_the_service_lives_on_outside_of_it(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with demo(kubectl, server, tmp_path, gpuCount=5, planning=TWO_STAGES) as node:
        await People.of(kubectl, node)
        name = _a_pod(kubectl)
        kubectl("label", "pod", name, f"{names.LABEL_SERVICE_UID}-")
        message = await _tell(kubectl, Reason.INSTANCE_TAKEN_OUT)
        assert f"the label {names.LABEL_SERVICE_UID} of pod {name}" in message
        await until("a replacement", lambda: settled(kubectl, 3, 2))
        assert len(_running(kubectl)) == 6
        kubectl("delete", "pod", name, "--wait=false")
        await until("it is gone", lambda: len(_running(kubectl)) == 5)
        assert told(kubectl, Reason.INSTANCE_LOST) == []


async def test_a_new_operator_reads_a_lost_plan_off_the_instances(
    kubectl: Kubectl, server: ApiServer, tmp_path: Path
) -> None:
    async with kubelet(server, kubectl.namespace) as node:
        async with operator(server, kubectl.namespace, tmp_path):
            assert kubectl.apply(manifest(kubectl, gpuCount=5, planning=TWO_STAGES)).returncode == 0
            await until("two stages", lambda: settled(kubectl, 3, 2))
        warm = pods(kubectl)
        # In this mode boundaries by hand are shown, not applied: one stage would be the first plan.
        _patch(kubectl, "csvc", "demo", planning={"mode": "Advisory"})
        kubectl("delete", "configmap", names.stage_map_name("demo"))
        async with operator(server, kubectl.namespace, tmp_path, identity="two"):
            await until("two stages again", lambda: settled(kubectl, 3, 2))
            config = kubectl.json("get", "configmap", names.stage_map_name("demo"))
        ends = [
            stage["maxLength"]
            for stage in json.loads(config["data"][names.STAGE_MAP_KEY])["stages"]
        ]
        assert ends == [1024, 16384]
        assert pods(kubectl) == warm
        assert node.killed == set()
