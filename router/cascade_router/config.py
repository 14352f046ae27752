"""The settings of one sidecar, read once from its environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

from cascade_policy import names
from cascade_router import limits

ENV_LOG_LEVEL: Final = "CASCADE_LOG_LEVEL"
ENV_KUBECONFIG: Final = "KUBECONFIG"
ENV_MAX_PREFIX_TOKENS: Final = "CASCADE_MAX_PREFIX_TOKENS"
ENV_VIEW_FILE: Final = "CASCADE_VIEW_FILE"
ENV_METRICS_AUTH: Final = "CASCADE_METRICS_AUTH"

LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
DEFAULT_ENGINE_URL: Final = f"http://127.0.0.1:{names.PORT_ENGINE}"
DEFAULT_LISTEN: Final = f"0.0.0.0:{names.PORT_ROUTER}"
DEFAULT_HOP_KEY_FILE: Final = f"{names.HOP_SECRET_MOUNT}/{names.HOP_SECRET_KEY}"
DEFAULT_DRAIN_SECONDS: Final = 600.0
DEFAULT_TRACE_RATIO: Final = 0.01


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
    """Longest time from when the pod is to go until what still runs is cut off; the pod's grace
    period must be longer."""
    kubeconfig: str | None = None
    """Path of a kubeconfig; without it, the pod's own service account is used."""
    max_prefix_tokens: int | None = None
    """Most tokens that the index of prefixes remembers; 0 switches it off, None is what the
    engine's KV cache holds."""
    view_file: Path | None = None
    """Members and stage map from a file instead of the Kubernetes API, see `view_file`."""
    api_keys_dir: Path | None = None
    """Folder of the keys of clients, see `api_keys`; without it nobody needs one."""
    max_waiting: int = limits.MAX_WAITING
    """Requests that wait at this front because no instance has room."""
    max_wait_seconds: float = limits.MAX_WAIT_SECONDS
    max_body_bytes: int = limits.MAX_BODY_BYTES
    """At most that constant, by which the server's memory is bounded."""
    otlp_endpoint: str | None = None
    """Base URL of an OpenTelemetry collector; without it nothing is traced."""
    trace_ratio: float = DEFAULT_TRACE_RATIO
    """Part of the requests that are traced, of those that belong to no trace yet."""
    access_log: bool = False
    """Whether each request gets a line on stdout."""
    metrics_auth: bool = False
    """Whether /metrics needs one, too."""

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
        api_keys = env.get(names.ENV_API_KEYS_DIR)
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
            drain_seconds=_seconds(env, names.ENV_DRAIN_SECONDS, DEFAULT_DRAIN_SECONDS),
            kubeconfig=env.get(ENV_KUBECONFIG) or None,
            max_prefix_tokens=_whole(env, ENV_MAX_PREFIX_TOKENS, None),
            view_file=Path(env[ENV_VIEW_FILE]) if env.get(ENV_VIEW_FILE) else None,
            api_keys_dir=Path(api_keys) if api_keys else None,
            max_waiting=_whole(env, names.ENV_MAX_WAITING, limits.MAX_WAITING),
            max_wait_seconds=_seconds(env, names.ENV_MAX_WAIT_SECONDS, limits.MAX_WAIT_SECONDS),
            max_body_bytes=_body_bytes(env),
            otlp_endpoint=_otlp_endpoint(env),
            trace_ratio=_trace_ratio(env),
            metrics_auth=_metrics_auth(env),
            access_log=_switch(env, names.ENV_ACCESS_LOG),
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
        raise InvalidConfig(
            f"{names.ENV_ENGINE_URL} must look like http://host:port, without user, path and query"
        )
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


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise InvalidConfig(f"{name} must be seconds from 0 to 86400, not {text!r}")
    return seconds


def _otlp_endpoint(env: Mapping[str, str]) -> str | None:
    url = env.get(names.ENV_OTLP_ENDPOINT)
    if not url:
        return None
    parts = urlsplit(url)
    plain = parts.username is None and not (parts.query or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise InvalidConfig(
            f"{names.ENV_OTLP_ENDPOINT} must look like http(s)://host:port, without user and query"
        )
    return url


def _trace_ratio(env: Mapping[str, str]) -> float:
    text = env.get(names.ENV_TRACE_RATIO)
    if not text:
        return DEFAULT_TRACE_RATIO
    try:
        ratio = float(text)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise InvalidConfig(f"{names.ENV_TRACE_RATIO} must be from 0 to 1, not {text!r}")
    return ratio


def _body_bytes(env: Mapping[str, str]) -> int:
    size = _whole(env, names.ENV_MAX_BODY_BYTES, limits.MAX_BODY_BYTES)
    if not 0 < size <= limits.MAX_BODY_BYTES:
        raise InvalidConfig(
            f"{names.ENV_MAX_BODY_BYTES} must be from 1 to {limits.MAX_BODY_BYTES}, not {size}"
        )
    return size


def _metrics_auth(env: Mapping[str, str]) -> bool:
    wanted = _switch(env, ENV_METRICS_AUTH)
    if wanted and not env.get(names.ENV_API_KEYS_DIR):
        raise InvalidConfig(
            f"{ENV_METRICS_AUTH} needs the API keys that {names.ENV_API_KEYS_DIR} names"
        )
    return wanted


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name) or "0"
    if text not in ("0", "1"):
        raise InvalidConfig(f"{name} must be 0 or 1, not {text!r}")
    return text == "1"


Default = TypeVar("Default", int, None)


def _whole(env: Mapping[str, str], name: str, default: Default) -> int | Default:
    text = env.get(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise InvalidConfig(f"{name} must be a whole number from 0, not {text!r}")
    return int(text)
