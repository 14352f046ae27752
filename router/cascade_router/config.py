"""The settings of one sidecar, read once from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cascade_policy import names

ENV_LOG_LEVEL: Final = "CASCADE_LOG_LEVEL"
ENV_DRAIN_SECONDS: Final = "CASCADE_DRAIN_SECONDS"
ENV_KUBECONFIG: Final = "KUBECONFIG"
ENV_MAX_PREFIX_TOKENS: Final = "CASCADE_MAX_PREFIX_TOKENS"
ENV_VIEW_FILE: Final = "CASCADE_VIEW_FILE"

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_ENGINE_URL: Final = f"http://127.0.0.1:{names.PORT_ENGINE}"
DEFAULT_LISTEN: Final = f"0.0.0.0:{names.PORT_ROUTER}"
DEFAULT_HOP_KEY_FILE: Final = f"{names.HOP_SECRET_MOUNT}/{names.HOP_SECRET_KEY}"
DEFAULT_DRAIN_SECONDS: Final = 600.0


class InvalidConfig(ValueError):
    """A variable is missing or wrong; the message names it and says what it should hold."""


@dataclass(frozen=True, slots=True)
class Config:
    """Who this sidecar is, where it listens, and where its engine and its API server are."""

    namespace: str
    service: str
    service_uid: str
    pod_name: str
    pod_ip: str
    stage_map_name: str
    hop_key_file: Path
    engine_host: str
    engine_port: int
    listen_host: str
    listen_port: int
    log_level: str = "INFO"
    drain_seconds: float = DEFAULT_DRAIN_SECONDS
    """Longest time between SIGTERM and exit; the pod's grace period should be longer."""
    kubeconfig: str | None = None
    """Path of a kubeconfig; without it, the pod's own service account is used."""
    max_prefix_tokens: int | None = None
    """Most tokens that the index of prefixes remembers; 0 switches it off, None is what the
    engine's KV cache holds."""
    view_file: Path | None = None
    """Members and stage map from a file instead of the Kubernetes API, see `view_file`."""

    @property
    def address(self) -> str:
        """This sidecar as its peers see it: "ip:port"."""
        return join_address(self.pod_ip, self.listen_port)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Config":
        """Read the settings. Raises InvalidConfig for the first variable that is wrong."""
        service = _required(env, names.ENV_SERVICE)
        engine_host, engine_port = _engine(env)
        listen_host, listen_port = _listen(env)
        return cls(
            namespace=_required(env, names.ENV_NAMESPACE),
            service=service,
            service_uid=_required(env, names.ENV_SERVICE_UID),
            pod_name=_required(env, names.ENV_POD_NAME),
            pod_ip=_required(env, names.ENV_POD_IP),
            stage_map_name=env.get(names.ENV_STAGE_MAP) or names.stage_map_name(service),
            hop_key_file=Path(env.get(names.ENV_HOP_SECRET_FILE) or DEFAULT_HOP_KEY_FILE),
            engine_host=engine_host,
            engine_port=engine_port,
            listen_host=listen_host,
            listen_port=listen_port,
            log_level=_log_level(env),
            drain_seconds=_drain_seconds(env),
            kubeconfig=env.get(ENV_KUBECONFIG) or None,
            max_prefix_tokens=_whole(env, ENV_MAX_PREFIX_TOKENS),
            view_file=Path(env[ENV_VIEW_FILE]) if env.get(ENV_VIEW_FILE) else None,
        )


def join_address(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 host."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _required(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise InvalidConfig(f"{name} is not set; the operator's pod template sets it")
    return value


def _engine(env: Mapping[str, str]) -> tuple[str, int]:
    url = env.get(names.ENV_ENGINE_URL) or DEFAULT_ENGINE_URL
    parts = urlsplit(url)
    host, port = parts.hostname, _port(parts.netloc)
    plain = parts.scheme == "http" and parts.path in ("", "/") and not parts.query
    if not plain or host is None or port is None or parts.username is not None:
        raise InvalidConfig(f"{names.ENV_ENGINE_URL} must look like http://host:port, not {url!r}")
    return host, port


def _listen(env: Mapping[str, str]) -> tuple[str, int]:
    value = env.get(names.ENV_LISTEN) or DEFAULT_LISTEN
    host, port = urlsplit(f"//{value}").hostname, _port(value)
    if host is None or port is None:
        raise InvalidConfig(f"{names.ENV_LISTEN} must look like address:port, not {value!r}")
    return host, port


def _port(netloc: str) -> int | None:
    _, colon, text = netloc.rpartition(":")
    if not (colon and text.isascii() and text.isdigit()):
        return None
    return int(text) if 0 < int(text) < 65536 else None


def _log_level(env: Mapping[str, str]) -> str:
    level = (env.get(ENV_LOG_LEVEL) or "INFO").upper()
    if level not in LOG_LEVELS:
        raise InvalidConfig(f"{ENV_LOG_LEVEL} must be one of {', '.join(LOG_LEVELS)}")
    return level


def _drain_seconds(env: Mapping[str, str]) -> float:
    text = env.get(ENV_DRAIN_SECONDS)
    if not text:
        return DEFAULT_DRAIN_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise InvalidConfig(f"{ENV_DRAIN_SECONDS} must be seconds from 0 to 86400, not {text!r}")
    return seconds


def _whole(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidConfig(f"{name} must be a whole number from 0, not {text!r}")
    return int(text)
