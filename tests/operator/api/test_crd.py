"""What the API server makes of a CascadeService: defaults, refusals, /scale."""

import copy
import json
from typing import Any

import pytest

from tests.operator.api.conftest import Kubectl
from tests.operator.builders import resource

pytestmark = pytest.mark.api_server


def manifest(kubectl: Kubectl, name: str = "demo", **spec: Any) -> dict[str, Any]:
    result = copy.deepcopy(resource(name, **spec))
    result["metadata"] = {"name": name, "namespace": kubectl.namespace}
    return result


def test_the_smallest_spec_shows_what_is_in_force(kubectl: Kubectl) -> None:
    assert kubectl.apply(manifest(kubectl)).returncode == 0
    spec = kubectl.json("get", "csvc", "demo")["spec"]
    assert spec["planning"]["mode"] == "Active"
    assert spec["objective"] == {"timeToFirstTokenMs": 2000, "timePerOutputTokenMs": 100}
    assert spec["routing"] == {"boundaries": "soft", "bias": 0.05}
    assert spec["handoff"] == {"enabled": True, "transport": "warm", "sliceTokens": 64}
    limits = {"maxWaiting": 1024, "maxWaitSeconds": 120, "maxBodyBytes": 16777216}
    assert spec["router"] == {"accessLog": False, "limits": limits}
    assert spec["gpusPerInstance"] == 1


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "no instance on a part of its GPUs": (
        "demo", {"gpuCount": 9, "gpusPerInstance": 2}, "must be a multiple of spec.gpusPerInst",
    ),
    "a boundary beyond the longest sequence": (
        "demo", {"planning": {"boundaries": [16384]}}, "must be below spec.model.maxLength",
    ),
    "boundaries that descend": (
        "demo", {"planning": {"boundaries": [4096, 1024]}}, "write the shortest length first",
    ),
    "a boundary twice": (
        "demo", {"planning": {"boundaries": [1024, 1024]}}, "a stage would be empty",
    ),
    "more stages than instances": (
        "demo", {"gpuCount": 2, "planning": {"boundaries": [64, 128]}},
        "every stage needs an instance",
    ),
    "two cost models": (
        "demo",
        {"planning": {"costModel": {"profile": "simulated", "coefficients": {
            "baseMs": 1, "perSequenceMs": 1, "perKvTokenMs": 1, "heterogeneity": 0,
            "prefillMsPerToken": 1, "prefillMsPerTokenSquared": 0, "chunkTokens": 1,
            "kvCapacityTokens": 1, "maxSequences": 1}}}},
        "not both and not neither",
    ),
    "no cost model": ("demo", {"planning": {"costModel": {}}}, "not both and not neither"),
    "an unknown profile": (
        "demo", {"planning": {"costModel": {"profile": "tpu"}}}, "Unsupported value",
    ),
    "an unknown engine": ("demo", {"engine": {"type": "llama.cpp"}}, "Unsupported value"),
    "an unknown transport": ("demo", {"handoff": {"transport": "copy"}}, "Unsupported value"),
    "no GPU": ("demo", {"gpuCount": 0}, "greater than or equal to 1"),
    "no instance": ("demo", {"instances": 0}, "greater than or equal to 1"),
    "a Prometheus without scheme": (
        "demo", {"prometheus": {"url": "prometheus:9090"}}, "http(s)://host[:port][/path]",
    ),
    "a password for Prometheus": (
        "demo", {"prometheus": {"url": "http://u:p@prometheus:9090"}}, "leave out user, password",
    ),
    "a password with a slash for Prometheus": (
        "demo", {"prometheus": {"url": "http://u:p/w@prometheus"}}, "leave out user, password",
    ),
    "a query for Prometheus": (
        "demo", {"prometheus": {"url": "http://prometheus/x?token=1"}}, "leave out user, password",
    ),
    "a fragment for Prometheus": (
        "demo", {"prometheus": {"url": "http://prometheus/#"}}, "leave out user, password",
    ),
    "the routers' own Secret for clients": (
        "demo", {"router": {"auth": {"secretName": "demo-hop"}}}, "make another one for the keys",
    ),
    "bodies beyond what a router holds": (
        "demo", {"router": {"limits": {"maxBodyBytes": 16777217}}}, "less than or equal to",
    ),
    "a password for the collector": (
        "demo", {"router": {"tracing": {"endpoint": "http://u:p@c:4318"}}},
        "leave out user, password",
    ),
    "a collector without address": (
        "demo", {"router": {"tracing": {"samplePercent": 5}}}, "endpoint: Required value",
    ),
    "more than all requests": (
        "demo", {"router": {"tracing": {"endpoint": "http://c", "samplePercent": 101}}},
        "less than or equal to 100",
    ),
    "keys in no Secret": ("demo", {"router": {"auth": {}}}, "secretName: Required value"),
    "a Secret that cannot be": (
        "demo", {"router": {"auth": {"secretName": "../x"}}}, "must be the name of a Secret",
    ),
    "keys at the router and at the engine": (
        "demo",
        {"router": {"auth": {"secretName": "x"}},
         "engine": {"type": "simulated", "args": ["--api-key=k"]}},
        "would refuse every request",
    ),
    "keys at the router and in the engine's environment": (
        "demo",
        {"router": {"auth": {"secretName": "x"}},
         "engine": {"type": "simulated", "env": [{"name": "VLLM_API_KEY", "value": "k"}]}},
        "would refuse every request",
    ),
    "the name of another's stage": ("demo-stage-0", {}, "would collide with the stages"),
    "a name that no Service can have": ("demo.x", {}, "becomes the name of a Service"),
    "a name too long for a label": ("d" * 55, {}, "at most 54 characters"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_message_that_says_what_to_do(case: str, kubectl: Kubectl) -> None:
    name, spec, message = REFUSED[case]
    done = kubectl.apply(manifest(kubectl, name, **spec))
    assert done.returncode != 0, case
    assert message in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "other", "maxLength": 16384}}, "another model is another service"),
        ({"engine": {"type": "vllm"}}, "spec.engine.type cannot change"),
    ],
)
def test_what_cannot_change_says_so(change: dict[str, Any], message: str, kubectl: Kubectl) -> None:
    assert kubectl.apply(manifest(kubectl)).returncode == 0
    done = kubectl.apply(manifest(kubectl, **change))
    assert done.returncode != 0
    assert message in " ".join(done.stderr.split())


def test_an_unknown_field_is_named(kubectl: Kubectl) -> None:
    done = kubectl.apply(manifest(kubectl, gpus=8))
    assert 'unknown field "spec.gpus"' in done.stderr


def test_scale_has_no_number_while_there_is_a_gpu_count_alone(kubectl: Kubectl) -> None:
    assert kubectl.apply(manifest(kubectl, gpuCount=4)).returncode == 0
    path = f"/apis/cascadeservice.dev/v1alpha1/namespaces/{kubectl.namespace}/cascadeservices"
    refused = kubectl.try_("get", "--raw", f"{path}/demo/scale")
    assert ".spec.instances" in refused.stderr, "an autoscaler is told what is missing"
    kubectl("scale", "csvc", "demo", "--replicas=3")
    assert json.loads(kubectl("get", "--raw", f"{path}/demo/scale"))["spec"]["replicas"] == 3


def test_scale_sets_instances(kubectl: Kubectl) -> None:
    assert kubectl.apply(manifest(kubectl)).returncode == 0
    kubectl("scale", "csvc", "demo", "--replicas=5")
    assert kubectl.json("get", "csvc", "demo")["spec"]["instances"] == 5


def test_no_scale_leaves_a_stage_without_instance(kubectl: Kubectl) -> None:
    planning = {"boundaries": [512, 1024]}
    assert kubectl.apply(manifest(kubectl, planning=planning)).returncode == 0
    done = kubectl.try_("scale", "csvc", "demo", "--replicas=2")
    assert "every stage needs an instance" in " ".join(done.stderr.split())
