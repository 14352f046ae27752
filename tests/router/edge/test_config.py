"""Settings: what the pod template sets is enough, and a wrong value is named."""

from pathlib import Path

import pytest

from cascade_policy import names
from cascade_router.config import Config, InvalidConfig

POD = {
    names.ENV_NAMESPACE: "team-a",
    names.ENV_SERVICE: "llama",
    names.ENV_SERVICE_UID: "u-1",
    names.ENV_POD_NAME: "llama-stage-0-abc",
    names.ENV_POD_IP: "10.1.2.3",
}


def test_five_variables_are_enough() -> None:
    config = Config.from_env(POD)
    assert config == Config(
        namespace="team-a",
        service="llama",
        service_uid="u-1",
        pod_name="llama-stage-0-abc",
        pod_ip="10.1.2.3",
        stage_map_name="llama-stagemap",
        hop_key_file=Path("/var/run/secrets/cascadeservice.dev/hop/hop-key"),
        engine_host="127.0.0.1",
        engine_port=8001,
        listen_host="0.0.0.0",
        listen_port=8000,
    )
    assert config.address == "10.1.2.3:8000"


def test_every_variable_is_read() -> None:
    config = Config.from_env(
        {
            **POD,
            names.ENV_POD_IP: "fd00::7",
            names.ENV_STAGE_MAP: "elsewhere",
            names.ENV_HOP_SECRET_FILE: "/keys/k",
            names.ENV_ENGINE_URL: "http://localhost:9001/",
            names.ENV_LISTEN: "[::]:9000",
            "CASCADE_LOG_LEVEL": "debug",
            "CASCADE_DRAIN_SECONDS": "30",
            "KUBECONFIG": "/kube/config",
            "CASCADE_VIEW_FILE": "/etc/view.json",
            names.ENV_API_KEYS_DIR: "/keys/clients",
            "CASCADE_METRICS_AUTH": "1",
            names.ENV_ACCESS_LOG: "1",
            names.ENV_OTLP_ENDPOINT: "http://collector.observability:4318",
            names.ENV_TRACE_RATIO: "0.25",
            names.ENV_MAX_WAITING: "0",
            names.ENV_MAX_WAIT_SECONDS: "2.5",
            names.ENV_MAX_BODY_BYTES: "4096",
        }
    )
    assert (config.stage_map_name, str(config.hop_key_file)) == ("elsewhere", "/keys/k")
    assert (config.engine_host, config.engine_port) == ("localhost", 9001)
    assert (config.listen_host, config.listen_port) == ("::", 9000)
    assert (config.log_level, config.drain_seconds) == ("DEBUG", 30.0)
    assert config.kubeconfig == "/kube/config"
    assert config.view_file == Path("/etc/view.json")
    assert (config.api_keys_dir, config.metrics_auth) == (Path("/keys/clients"), True)
    assert config.access_log
    assert (config.max_waiting, config.max_wait_seconds) == (0, 2.5)
    assert config.max_body_bytes == 4096
    assert config.otlp_endpoint == "http://collector.observability:4318"
    assert config.trace_ratio == 0.25
    assert config.address == "[fd00::7]:9000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(pytest.param(name, "", id=f"no {name}") for name in POD),
        pytest.param(names.ENV_ENGINE_URL, "https://127.0.0.1:8001", id="an engine behind TLS"),
        pytest.param(names.ENV_ENGINE_URL, "http://127.0.0.1", id="an engine without port"),
        pytest.param(names.ENV_ENGINE_URL, "http://127.0.0.1:8001/v1", id="an engine with a path"),
        pytest.param(names.ENV_ENGINE_URL, "http://a:b@127.0.0.1:8001", id="an engine with user"),
        pytest.param(names.ENV_LISTEN, "8000", id="a port alone"),
        pytest.param(names.ENV_LISTEN, "0.0.0.0:99999", id="a port out of range"),
        pytest.param("CASCADE_LOG_LEVEL", "loud", id="an unknown log level"),
        pytest.param(names.ENV_ACCESS_LOG, "true", id="another switch in words"),
        pytest.param("CASCADE_METRICS_AUTH", "yes", id="a switch in words"),
        pytest.param("CASCADE_METRICS_AUTH", "1", id="guarded metrics without any key"),
        pytest.param(names.ENV_OTLP_ENDPOINT, "collector:4318", id="a collector without scheme"),
        pytest.param(names.ENV_OTLP_ENDPOINT, "http://u:p@c:4318", id="a collector with user"),
        pytest.param(names.ENV_TRACE_RATIO, "5%", id="a ratio with a sign"),
        pytest.param(names.ENV_TRACE_RATIO, "1.5", id="more than all"),
        pytest.param(names.ENV_MAX_WAITING, "-1", id="a negative number"),
        pytest.param(names.ENV_MAX_WAIT_SECONDS, "long", id="a wait in words"),
        pytest.param(names.ENV_MAX_BODY_BYTES, "0", id="no body at all"),
        pytest.param(
            names.ENV_MAX_BODY_BYTES, "16777217", id="a body beyond the server's own limit"
        ),
        pytest.param("CASCADE_DRAIN_SECONDS", "soon", id="seconds in words"),
        pytest.param("CASCADE_DRAIN_SECONDS", "-1", id="negative seconds"),
        pytest.param("CASCADE_DRAIN_SECONDS", "nan", id="seconds that are no number"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidConfig, match=name):
        Config.from_env({**POD, name: value})


def test_a_wrong_address_is_not_repeated_for_it_may_hold_a_password() -> None:
    with pytest.raises(InvalidConfig) as error:
        Config.from_env({**POD, names.ENV_ENGINE_URL: "http://user:hunter2@127.0.0.1:8001"})
    assert "hunter2" not in str(error.value)
