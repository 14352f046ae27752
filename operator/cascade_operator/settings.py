"""Settings of the operator's process, read once from its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cascade_operator.pod_template import Images

VLLM_IMAGE: Final = "docker.io/vllm/vllm-openai:v0.32.0"


class InvalidSettings(ValueError):
    """A variable is missing or malformed; the message names it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds."""

    images: Images
    prometheus_url: str | None
    resync_seconds: float
    health_host: str
    health_port: int
    namespace: str
    pod_name: str
    watch_namespaces: tuple[str, ...]
    """Namespaces to watch; empty for the whole cluster."""
    leader_election: bool
    lease_name: str
    log_level: str


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of `environment`. Raises InvalidSettings."""
    host, port = _address(environment, "CASCADE_HEALTH_LISTEN", "0.0.0.0:8080")
    router = environment.get("CASCADE_ROUTER_IMAGE", "")
    if not router:
        raise InvalidSettings("CASCADE_ROUTER_IMAGE is not set: instances need a router image")
    return Settings(
        images=Images(
            router=router,
            simulated_engine=environment.get("CASCADE_SIMULATED_ENGINE_IMAGE", ""),
            vllm=environment.get("CASCADE_VLLM_IMAGE") or VLLM_IMAGE,
            pull_policy=environment.get("CASCADE_IMAGE_PULL_POLICY", "IfNotPresent"),
        ),
        prometheus_url=environment.get("CASCADE_PROMETHEUS_URL") or None,
        resync_seconds=_seconds(environment, "CASCADE_RESYNC_SECONDS", 30.0),
        health_host=host,
        health_port=port,
        namespace=environment.get("CASCADE_NAMESPACE", "default"),
        pod_name=environment.get("CASCADE_POD_NAME") or f"{os.uname().nodename}-{os.getpid()}",
        watch_namespaces=tuple(
            part.strip()
            for part in environment.get("CASCADE_WATCH_NAMESPACES", "").split(",")
            if part.strip()
        ),
        leader_election=_switch(environment, "CASCADE_LEADER_ELECTION", True),
        lease_name=environment.get("CASCADE_LEASE_NAME", "cascade-operator"),
        log_level=environment.get("CASCADE_LOG_LEVEL", "INFO").upper(),
    )


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise InvalidSettings(f"{name} must be a number of seconds, not {text!r}") from None
    if not 1 <= value <= 86400:
        raise InvalidSettings(f"{name} must be between 1 and 86400 seconds, not {text}")
    return value


def _switch(environment: Mapping[str, str], name: str, default: bool) -> bool:
    text = environment.get(name, "").lower()
    if text not in ("", "true", "false"):
        raise InvalidSettings(f"{name} must be true or false, not {text!r}")
    return default if not text else text == "true"


def _address(environment: Mapping[str, str], name: str, default: str) -> tuple[str, int]:
    text = environment.get(name) or default
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidSettings(f"{name} must be HOST:PORT, not {text!r}")
    return host, int(port)
