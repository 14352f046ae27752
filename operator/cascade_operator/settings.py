"""Settings of the operator's process, read once from its environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cascade_operator.connection import Connection
from cascade_operator.environment import InvalidSettings, address, seconds, switch
from cascade_operator.pod_template import Images
from cascade_operator.prometheus_settings import read_connection

VLLM_IMAGE: Final = "docker.io/vllm/vllm-openai:v0.32.0"


@dataclass(frozen=True, slots=True)
class Settings:
    """Times in seconds."""

    images: Images
    prometheus: Connection | None
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
    host, port = address(environment, "CASCADE_HEALTH_LISTEN", "0.0.0.0:8080")
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
        prometheus=read_connection(environment),
        resync_seconds=seconds(environment, "CASCADE_RESYNC_SECONDS", 30.0),
        health_host=host,
        health_port=port,
        namespace=environment.get("CASCADE_NAMESPACE", "default"),
        pod_name=environment.get("CASCADE_POD_NAME") or f"{os.uname().nodename}-{os.getpid()}",
        watch_namespaces=tuple(
            part.strip()
            for part in environment.get("CASCADE_WATCH_NAMESPACES", "").split(",")
            if part.strip()
        ),
        leader_election=switch(environment, "CASCADE_LEADER_ELECTION", True),
        lease_name=environment.get("CASCADE_LEASE_NAME", "cascade-operator"),
        log_level=environment.get("CASCADE_LOG_LEVEL", "INFO").upper(),
    )
