"""The children, pinned by golden files."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade_operator.errors import Stalled
from cascade_operator.plans import first_plan
from cascade_operator.pod_template import pod_template, template_hash
from cascade_operator.resources import (
    Child,
    at_version,
    differs,
    front_service,
    hop_secret,
    selects_the_same,
    stage_deployment,
    stage_map_config,
    stage_map_of,
    stage_service,
    static_children,
)
from cascade_operator.spec import ServiceSpec
from cascade_policy import names
from cascade_router.config import DEFAULT_TRACE_RATIO, Config
from tests.conftest import Golden
from tests.operator.builders import IMAGES, NOW, service

GOLDEN = Path(__file__).parent / "golden"

VLLM = {
    "model": {"name": "llama", "source": "meta-llama/Llama-3.1-8B", "maxLength": 131072},
    "gpuCount": 4,
    "gpusPerInstance": 2,
    "engine": {
        "type": "vllm",
        "args": ["--enable-prefix-caching"],
        "env": [{"name": "HOME", "value": "/elsewhere"}],
        "template": {
            "metadata": {"labels": {"team": "blue", names.LABEL_SERVICE: "not-this"}},
            "spec": {
                "nodeSelector": {"gpu": "h100"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "schedulingGates": [{"name": "example.org/other"}],
                "containers": [
                    {
                        "name": "engine",
                        "resources": {"requests": {"cpu": "8"}},
                        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
                    }
                ],
                "volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "m"}}],
            },
        },
    },
    "router": {
        "auth": {"secretName": "llama-clients"},
        "accessLog": True,
        "tracing": {"endpoint": "http://collector.observability:4318", "samplePercent": 2.5},
        "limits": {"maxWaiting": 7, "maxWaitSeconds": 30, "maxBodyBytes": 4096},
    },
}


def _children(spec: ServiceSpec) -> list[Child]:
    plan = first_plan(spec, NOW)
    stage_map = stage_map_of(spec, plan, "2026-02-02T02:40:00Z")
    return [
        *static_children(spec),
        hop_secret(spec, "00" * 32),
        stage_map_config(spec, plan, stage_map),
        stage_service(spec, 1),
        stage_deployment(spec, IMAGES, 1),
    ]


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("simulated", {"planning": {"boundaries": [1024]}}),
        ("vllm-with-template", VLLM),
    ],
)
def test_children(name: str, spec: dict[str, Any], golden: Golden) -> None:
    # Through JSON, so that parts that are shared in memory are written out.
    manifests = json.loads(json.dumps([one.manifest for one in _children(service(**spec))]))
    golden(GOLDEN / f"{name}.yaml", yaml.safe_dump_all(manifests, sort_keys=True))


def test_stages_differ_in_nothing_but_their_label() -> None:
    spec = service()
    first, second = (pod_template(spec, IMAGES, index) for index in (0, 1))
    assert first["metadata"]["labels"].pop(names.LABEL_STAGE) == "0"
    assert second["metadata"]["labels"].pop(names.LABEL_STAGE) == "1"
    assert first == second


@pytest.mark.parametrize(
    ("case", "spec", "restarts"),
    [
        ("planning", {"planning": {"mode": "Advisory", "boundaries": [512]}}, False),
        ("objective", {"objective": {"timeToFirstTokenMs": 1}}, False),
        ("routing", {"routing": {"boundaries": "hard", "bias": 1}}, False),
        ("handoff", {"handoff": {"enabled": False, "transport": "recompute"}}, False),
        ("more instances", {"instances": 20}, False),
        ("another maximum length", {"model": {"name": "demo-model", "maxLength": 8192}}, True),
        ("keys for clients", {"router": {"auth": {"secretName": "x"}}}, True),
        ("traces", {"router": {"tracing": {"endpoint": "http://c:4318"}}}, True),
        ("an access log", {"router": {"accessLog": True}}, True),
        ("another image", {"engine": {"type": "simulated", "image": "x"}}, True),
    ],
)
def test_only_what_the_engine_must_know_restarts_it(
    case: str, spec: dict[str, Any], restarts: bool
) -> None:
    before, after = (template_hash(one, IMAGES) for one in (service(), service(**spec)))
    assert (before != after) is restarts, case


def test_the_user_cannot_take_away_what_the_system_needs() -> None:
    template = pod_template(service(**VLLM), IMAGES, 0)
    assert template["metadata"]["labels"][names.LABEL_SERVICE] == "demo"
    gates = [gate["name"] for gate in template["spec"]["schedulingGates"]]
    assert gates == [names.GATE_PLACEMENT, "example.org/other"]


def pod_with(template: dict[str, Any]) -> dict[str, Any]:
    engine = {"type": "simulated", "template": {"spec": template}}
    pod: dict[str, Any] = pod_template(service(engine=engine), IMAGES, 0)["spec"]
    return pod


@pytest.mark.parametrize(
    ("template", "grace", "drain"),
    [
        ({}, 630, 600),
        ({"terminationGracePeriodSeconds": 3600}, 3600, 3570),
        ({"terminationGracePeriodSeconds": 30}, 30, 22),
        ({"terminationGracePeriodSeconds": 0}, 0, 0),
    ],
)
def test_the_drain_ends_before_the_grace_period_that_the_user_gives(
    template: dict[str, Any], grace: int, drain: int
) -> None:
    pod = pod_with(template)
    assert pod["terminationGracePeriodSeconds"] == grace
    (router,) = pod["initContainers"]
    env = {entry["name"]: entry.get("value", "x") for entry in router["env"]}
    assert Config.from_env(env).drain_seconds == drain


def test_the_engine_is_not_stopped_before_the_router_lets_go_of_it() -> None:
    """Whatever else the user has for its container."""
    started = {"postStart": {"exec": {"command": ["true"]}}}
    for lifecycle in (started, None):
        template = {"containers": [{"name": "engine", "lifecycle": lifecycle}]}
        (engine,) = pod_with(template)["containers"]
        assert engine["lifecycle"] == {
            **(lifecycle or {}),
            "preStop": {
                "httpGet": {
                    "path": names.LEAVE_PATH,
                    "port": names.PORT_ROUTER,
                    "scheme": "HTTP",
                    "httpHeaders": [{"name": names.HEADER_LEAVES, "value": service().uid}],
                }
            },
        }


HELPER = {"name": "helper", "lifecycle": {"preStop": {"sleep": {}}}}
HOOK = {"name": "engine", "lifecycle": {"preStop": {"exec": {}}}}


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"spec": {"containers": [HELPER, HOOK]}}, "lifecycle.preStop for the container 'engine'"),
        ({"spec": "engine"}, "has not the form of a pod template"),
        ({"spec": {"containers": 1}}, "has not the form of a pod template"),
        ({"spec": {"containers": [{"name": "engine", "lifecycle": "x"}]}}, "has not the form"),
    ],
)
def test_a_template_that_cannot_be_laid_over_ours_is_refused_with_a_remedy(
    template: dict[str, Any], words: str
) -> None:
    spec = service(engine={"type": "simulated", "template": template})
    with pytest.raises(Stalled, match=words):
        template_hash(spec, IMAGES)


def test_a_hook_of_another_container_is_the_users_own() -> None:
    assert HELPER in pod_with({"containers": [HELPER]})["containers"]


def test_pods_pass_the_restricted_pod_security_level() -> None:
    for spec in (service(), service(**VLLM)):
        pod = pod_template(spec, IMAGES, 0)["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in [*pod["containers"], *pod["initContainers"]]:
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert security["seccompProfile"]["type"] == "RuntimeDefault"


def test_the_keys_of_clients_are_mounted_into_the_router_alone() -> None:
    pod = pod_template(service(**VLLM), IMAGES, 0)["spec"]
    (volume,) = [one for one in pod["volumes"] if "llama-clients" in repr(one)]
    assert volume["secret"]["optional"] is False
    mounts = {
        container["name"]: mount
        for container in [*pod["containers"], *pod["initContainers"]]
        for mount in container["volumeMounts"]
        if mount["name"] == volume["name"]
    }
    assert set(mounts) == {names.CONTAINER_ROUTER}
    assert mounts["router"]["readOnly"] is True
    (router,) = pod["initContainers"]
    env = {entry["name"]: entry.get("value") for entry in router["env"]}
    assert env[names.ENV_API_KEYS_DIR] == mounts["router"]["mountPath"]


def test_what_the_router_is_told_is_what_it_reads() -> None:
    given = {entry["name"]: entry.get("value", "x") for entry in _router_env(VLLM)}
    config = Config.from_env(given)
    assert str(config.api_keys_dir) == names.API_KEYS_MOUNT
    assert config.access_log
    assert config.otlp_endpoint == "http://collector.observability:4318"
    assert config.trace_ratio == 0.025
    assert (config.max_waiting, config.max_wait_seconds, config.max_body_bytes) == (7, 30, 4096)


def test_what_the_router_takes_for_granted_is_what_the_schema_does() -> None:
    told = Config.from_env({entry["name"]: entry.get("value", "x") for entry in _router_env({})})
    bare = Config.from_env(
        dict.fromkeys(
            (
                *(names.ENV_NAMESPACE, names.ENV_SERVICE, names.ENV_SERVICE_UID),
                *(names.ENV_POD_NAME, names.ENV_POD_IP),
            ),
            "x",
        )
    )
    for name in (
        *("api_keys_dir", "access_log", "otlp_endpoint"),
        *("max_waiting", "max_wait_seconds", "max_body_bytes"),
    ):
        assert getattr(told, name) == getattr(bare, name), name


def test_the_share_of_traces_is_the_same_for_schema_and_router() -> None:
    env = _router_env({"router": {"tracing": {"endpoint": "http://collector:4318"}}})
    config = Config.from_env({entry["name"]: entry.get("value", "x") for entry in env})
    assert config.trace_ratio == DEFAULT_TRACE_RATIO


def _router_env(spec: dict[str, Any]) -> list[dict[str, Any]]:
    (router,) = pod_template(service(**spec), IMAGES, 0)["spec"]["initContainers"]
    env: list[dict[str, Any]] = router["env"]
    return env


def test_without_keys_nothing_speaks_of_them() -> None:
    assert "api-keys" not in repr(pod_template(service(), IMAGES, 0))


def test_an_object_that_has_more_than_we_say_does_not_differ() -> None:
    child = stage_deployment(service(), IMAGES, 0)
    observed = {**child.manifest, "status": {"replicas": 3}}
    observed["spec"] = {**child.manifest["spec"], "replicas": 3, "paused": False}
    assert not differs(child, observed)
    observed["spec"] = {**observed["spec"], "revisionHistoryLimit": 10}
    assert differs(child, observed)


def test_a_selector_with_one_more_label_differs_for_it_finds_no_pod() -> None:
    front = front_service(service())
    observed = copy.deepcopy(front.manifest)
    assert not differs(front, observed)
    assert selects_the_same(front, observed)
    observed["spec"]["selector"]["team"] = "blue"
    assert differs(front, observed)
    assert not selects_the_same(front, observed)
    assert not selects_the_same(front, None)


def test_the_budget_is_absolute_and_leaves_one_instance_to_drains() -> None:
    budgets = [
        child.manifest["spec"]["minAvailable"]
        for spec in (service(), replace(service(), instances=1))
        for child in static_children(spec)
        if child.kind.plural == "poddisruptionbudgets"
    ]
    assert budgets == [7, 0]


def test_the_engines_user_has_a_name_unless_the_user_gives_another() -> None:
    given = {**VLLM, "engine": {"type": "vllm", "env": [{"name": "USER", "value": "me"}]}}
    engine = pod_template(service(**given), IMAGES, 0)["spec"]["containers"][0]
    env = {entry["name"]: entry["value"] for entry in engine["env"]}
    assert (env["USER"], env["LOGNAME"], env["HOME"]) == ("me", "cascade", "/cache")


def test_a_child_at_a_version_is_the_same_otherwise() -> None:
    spec = service()
    plan = first_plan(spec, NOW)
    child = stage_map_config(spec, plan, stage_map_of(spec, plan, "2026-02-02T02:40:00Z"))
    versioned = at_version(child, "7")
    assert versioned.manifest["metadata"]["resourceVersion"] == "7"
    assert differs(child, versioned.manifest) is False
    assert differs(versioned, child.manifest) is True
