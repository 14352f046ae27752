"""The pod template of an instance: the router as native sidecar, the engine beside it.

Nothing that changes with the plan may enter it: a changed template is a rollout, and a rollout is
a restart. All stages share it but for the stage label.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from cascade_operator.errors import Stalled
from cascade_operator.merge import merge
from cascade_operator.reasons import Reason
from cascade_operator.spec import EngineType, ServiceSpec
from cascade_policy import names

Manifest = dict[str, Any]

_USER: Final = 65532
_ENGINE_URL: Final = f"http://127.0.0.1:{names.PORT_ENGINE}"
_TOKEN_MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_GRACE_SECONDS: Final = 630
"""For what a pod that is deleted still has to do; an idle one ends at once."""
_STOP_SECONDS: Final = 30
"""Of the grace period, what engine and router may take to stop when the drain is over; at most a
quarter of it."""
_CONTAINER_SECURITY: Final[Manifest] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True, slots=True)
class Images:
    """Images that the operator was set up with."""

    router: str
    simulated_engine: str
    vllm: str
    pull_policy: str


def base_labels(spec: ServiceSpec) -> dict[str, str]:
    """Labels of every child."""
    return {
        names.LABEL_APP_NAME: "cascade-instance",
        names.LABEL_APP_INSTANCE: spec.name,
        names.LABEL_APP_COMPONENT: "instance",
        names.LABEL_APP_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_SERVICE: spec.name,
        names.LABEL_SERVICE_UID: spec.uid,
    }


def selector_labels(spec: ServiceSpec) -> dict[str, str]:
    """Labels by which a Service finds the pods of this CascadeService, and of no other."""
    return {names.LABEL_SERVICE: spec.name, names.LABEL_SERVICE_UID: spec.uid}


def pod_template(spec: ServiceSpec, images: Images, stage: int) -> Manifest:
    """The template of one stage, with our hash of what all stages share in an annotation.

    Raises Stalled when the user's template cannot be laid over ours.
    """
    own = {
        "metadata": {
            "labels": {names.LABEL_STAGE: str(stage)},
            "annotations": {names.ANNOTATION_TEMPLATE_HASH: template_hash(spec, images)},
        }
    }
    return merge(_shared_template(spec, images), own)


def template_hash(spec: ServiceSpec, images: Images) -> str:
    """Our hash of the template that all stages share.

    The uid is left out: it never changes, and so what a release renders can be compared with what
    another one rendered for the same spec. Raises Stalled like `pod_template`.
    """
    return digest(_shared_template(replace(spec, uid=""), images))


def digest(manifest: Mapping[str, Any]) -> str:
    """A short hash of a manifest, the same for equal manifests."""
    canonical = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _shared_template(spec: ServiceSpec, images: Images) -> Manifest:
    """Ours, the user's over it, and over that what the system cannot do without."""
    try:
        _check_hooks(spec.engine.template)
        return _merged(spec, images)
    except (AttributeError, KeyError, TypeError) as error:
        raise Stalled(
            Reason.INVALID_SPEC,
            "spec.engine.template has not the form of a pod template, such as {metadata: {labels: "
            f"...}}, spec: {{containers: [{{name: engine, ...}}]}}}}: {error}",
        ) from error


def _merged(spec: ServiceSpec, images: Images) -> Manifest:
    merged = merge(_own_template(spec, images), spec.engine.template)
    drain = {"name": names.ENV_DRAIN_SECONDS, "value": str(_drain_seconds(merged["spec"]))}
    indispensable = {
        "metadata": {"labels": base_labels(spec)},
        "spec": {
            "schedulingGates": [{"name": names.GATE_PLACEMENT}],
            "serviceAccountName": names.sidecar_account_name(spec.name),
            "initContainers": [{"name": names.CONTAINER_ROUTER, "env": [drain]}],
            "containers": [{"name": names.CONTAINER_ENGINE, "lifecycle": _lifecycle(spec)}],
        },
    }
    return merge(merged, indispensable)


def _check_hooks(template: Mapping[str, Any]) -> None:
    """Kubernetes allows a container one hook before it stops, and that is ours."""
    for container in template.get("spec", {}).get("containers") or ():
        if not isinstance(container, Mapping) or container.get("name") != names.CONTAINER_ENGINE:
            continue
        if (container.get("lifecycle") or {}).get("preStop"):
            raise Stalled(
                Reason.INVALID_SPEC,
                "spec.engine.template has a lifecycle.preStop for the container "
                f"{names.CONTAINER_ENGINE!r}, but a container can have one only, and the router "
                "needs it to drain the engine; remove it, and do on SIGTERM what it does: the "
                "engine gets that signal when it has nothing left to do",
            )


def _drain_seconds(pod: Mapping[str, Any]) -> int:
    """How long what runs may take to end: the pod's grace period, less what stopping takes."""
    grace = pod.get("terminationGracePeriodSeconds")
    # Whatever else the user wrote there is refused by the API server.
    seconds = grace if isinstance(grace, int) and grace >= 0 else _GRACE_SECONDS
    return seconds - min(_STOP_SECONDS, (seconds + 3) // 4)


def _lifecycle(spec: ServiceSpec) -> Manifest:
    """Before the kubelet stops an engine, it asks the router, and waits until the engine is free.

    Otherwise it would stop the engine first: it tells a native sidecar last. The router's port is
    open to clients, who do not know the uid of the service.
    """
    ask = {
        "path": names.LEAVE_PATH,
        "port": names.PORT_ROUTER,
        "scheme": "HTTP",
        "httpHeaders": [{"name": names.HEADER_LEAVES, "value": spec.uid}],
    }
    return {"preStop": {"httpGet": ask}}


def _own_template(spec: ServiceSpec, images: Images) -> Manifest:
    return {
        "metadata": {"labels": base_labels(spec), "annotations": {}},
        "spec": {
            "schedulingGates": [{"name": names.GATE_PLACEMENT}],
            "serviceAccountName": names.sidecar_account_name(spec.name),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": _GRACE_SECONDS,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [_router(spec, images)],
            "containers": [_engine(spec, images)],
            "volumes": _volumes(spec),
        },
    }


def _router(spec: ServiceSpec, images: Images) -> Manifest:
    def field(path: str) -> Manifest:
        return {"fieldRef": {"fieldPath": path}}

    env: list[Manifest] = [
        {"name": names.ENV_NAMESPACE, "valueFrom": field("metadata.namespace")},
        {"name": names.ENV_POD_NAME, "valueFrom": field("metadata.name")},
        {"name": names.ENV_POD_IP, "valueFrom": field("status.podIP")},
        {"name": names.ENV_SERVICE, "value": spec.name},
        {"name": names.ENV_SERVICE_UID, "value": spec.uid},
        {"name": names.ENV_STAGE_MAP, "value": names.stage_map_name(spec.name)},
        {
            "name": names.ENV_HOP_SECRET_FILE,
            "value": f"{names.HOP_SECRET_MOUNT}/{names.HOP_SECRET_KEY}",
        },
        {"name": names.ENV_ENGINE_URL, "value": _ENGINE_URL},
        {"name": names.ENV_LISTEN, "value": f"0.0.0.0:{names.PORT_ROUTER}"},
        *({"name": name, "value": value} for name, value in _router_settings(spec).items()),
    ]
    mounts: list[Manifest] = [
        {"name": "hop-key", "mountPath": names.HOP_SECRET_MOUNT, "readOnly": True},
        {"name": "api-token", "mountPath": _TOKEN_MOUNT, "readOnly": True},
        {"name": "router-tmp", "mountPath": "/tmp"},
    ]
    if spec.router.api_keys_secret is not None:
        mounts.append({"name": "api-keys", "mountPath": names.API_KEYS_MOUNT, "readOnly": True})
    return {
        "name": names.CONTAINER_ROUTER,
        "image": images.router,
        "imagePullPolicy": images.pull_policy,
        "restartPolicy": "Always",
        "ports": [{"name": names.PORT_NAME, "containerPort": names.PORT_ROUTER}],
        "env": env,
        "startupProbe": _probe("/health", period=1, failures=120),
        "readinessProbe": _probe("/ready", period=2, failures=2),
        "livenessProbe": _probe("/health", period=10, failures=3),
        "resources": {
            "requests": {"cpu": "50m", "memory": "96Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": _CONTAINER_SECURITY,
        "volumeMounts": mounts,
    }


def _router_settings(spec: ServiceSpec) -> dict[str, str]:
    """spec.router as the router's environment."""
    router = spec.router
    settings = {
        names.ENV_MAX_WAITING: str(router.max_waiting),
        names.ENV_MAX_WAIT_SECONDS: str(router.max_wait_seconds),
        names.ENV_MAX_BODY_BYTES: str(router.max_body_bytes),
    }
    if router.api_keys_secret is not None:
        settings[names.ENV_API_KEYS_DIR] = names.API_KEYS_MOUNT
    if router.access_log:
        settings[names.ENV_ACCESS_LOG] = "1"
    if router.traces_endpoint is not None:
        settings[names.ENV_OTLP_ENDPOINT] = router.traces_endpoint
        settings[names.ENV_TRACE_RATIO] = f"{router.traces_percent / 100:.6g}"
    return settings


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.PORT_NAME},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _engine(spec: ServiceSpec, images: Images) -> Manifest:
    engine = _simulated(spec, images) if _is_simulated(spec) else _vllm(spec, images)
    given = [{"name": name, "value": value} for name, value in spec.engine.env]
    return {
        "name": names.CONTAINER_ENGINE,
        "imagePullPolicy": images.pull_policy,
        "securityContext": _CONTAINER_SECURITY,
        **engine,
        "args": [*engine["args"], *spec.engine.args],
        "env": merge({"env": engine["env"]}, {"env": given})["env"],
    }


def _is_simulated(spec: ServiceSpec) -> bool:
    return spec.engine.type is EngineType.SIMULATED


def _simulated(spec: ServiceSpec, images: Images) -> Manifest:
    return {
        "image": spec.engine.image or images.simulated_engine,
        "args": [
            *("--host", "127.0.0.1"),
            *("--port", str(names.PORT_ENGINE)),
            *("--model", spec.model_name),
            *("--max-length", str(spec.max_length)),
            *("--profile", "simulated"),
        ],
        "env": [],
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "engine-tmp", "mountPath": "/tmp"}],
    }


def _vllm(spec: ServiceSpec, images: Images) -> Manifest:
    return {
        "image": spec.engine.image or images.vllm,
        "command": ["vllm", "serve"],
        "args": [
            spec.model_source,
            *("--served-model-name", spec.model_name),
            *("--host", "127.0.0.1"),
            *("--port", str(names.PORT_ENGINE)),
            *("--max-model-len", str(spec.max_length)),
            *("--tensor-parallel-size", str(spec.gpus_per_instance)),
            "--enable-prompt-tokens-details",
        ],
        "env": [
            # The router reuses connections; the engine's own idle limit of 5 s closes them unsaid.
            {"name": "VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "value": "75"},
            {"name": "HOME", "value": "/cache"},
            # The user has no passwd entry; libraries that ask for its name find it here.
            {"name": "USER", "value": "cascade"},
            {"name": "LOGNAME", "value": "cascade"},
            {"name": "HF_HOME", "value": "/cache/huggingface"},
            {"name": "VLLM_CACHE_ROOT", "value": "/cache/vllm"},
        ],
        "resources": {"limits": {"nvidia.com/gpu": str(spec.gpus_per_instance)}},
        "volumeMounts": [
            {"name": "engine-tmp", "mountPath": "/tmp"},
            {"name": "cache", "mountPath": "/cache"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ],
    }


def _volumes(spec: ServiceSpec) -> list[Manifest]:
    volumes: list[Manifest] = [
        {"name": "router-tmp", "emptyDir": {}},
        {"name": "engine-tmp", "emptyDir": {}},
        {
            "name": "hop-key",
            "secret": {"secretName": names.hop_secret_name(spec.name), "defaultMode": 0o440},
        },
        {"name": "api-token", "projected": {"defaultMode": 0o440, "sources": _token_sources()}},
    ]
    if spec.router.api_keys_secret is not None:
        # Not optional: an instance whose Secret is missing waits for it instead of refusing all.
        secret = {"secretName": spec.router.api_keys_secret, "defaultMode": 0o440}
        volumes.append({"name": "api-keys", "secret": {**secret, "optional": False}})
    if not _is_simulated(spec):
        volumes.append({"name": "cache", "emptyDir": {}})
        volumes.append({"name": "shared-memory", "emptyDir": {"medium": "Memory"}})
    return volumes


def _token_sources() -> list[Manifest]:
    """What a service account mount holds; only the router's container gets it."""
    return [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {
            "configMap": {
                "name": "kube-root-ca.crt",
                "items": [{"key": "ca.crt", "path": "ca.crt"}],
            }
        },
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
            }
        },
    ]
