"""The chart and the operator agree on the operator's environment."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cascade_operator.settings import read_settings
from tests.charts.chart import NAMESPACE, Chart, Values, named
from tests.charts.variants import (
    EVERYTHING_SET,
    OPENSHIFT_PROMETHEUS,
    OWN_PROMETHEUS,
    SECURED_PROMETHEUS,
)

DOWNWARD = {"metadata.namespace": NAMESPACE, "metadata.name": "cascade-operator-0"}


class Recorder(Mapping[str, str]):
    """An environment that remembers which variables it was asked for."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.asked.add(name)
        return self.variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


def environment(chart: Chart, values: Values) -> Recorder:
    """The environment of the operator's container, as the kubelet would fill it."""
    deployment = named(chart.manifests(values), "Deployment", "cascade-operator")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return Recorder(
        {
            entry["name"]: entry["value"]
            if "value" in entry
            else DOWNWARD[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            for entry in container["env"]
        }
    )


@pytest.mark.parametrize("values", [EVERYTHING_SET, SECURED_PROMETHEUS, OPENSHIFT_PROMETHEUS])
def test_the_operator_reads_every_variable_that_the_chart_sets(
    chart: Chart, values: Values
) -> None:
    seen = environment(chart, values)
    read_settings(seen)
    extra = {entry["name"] for entry in values.get("extraEnv", ())}
    assert set(seen) - seen.asked == extra


def mounted_files(chart: Chart, values: Values) -> dict[str, tuple[str, str]]:
    """Paths in the operator's container, and the object and key that the kubelet puts there."""
    deployment = named(chart.manifests(values), "Deployment", "cascade-operator")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    folders = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    found: dict[str, tuple[str, str]] = {}
    for volume in pod["volumes"]:
        for source in volume.get("projected", {}).get("sources", ()):
            ((kind, content),) = source.items()
            items: list[dict[str, Any]] = content.get("items", [content])
            for item in items:
                path = f"{folders[volume['name']]}/{item['path']}"
                assert path not in found
                found[path] = (content.get("name", kind), item.get("key", ""))
    return found


def test_the_operator_finds_its_credentials_where_the_chart_mounts_them(chart: Chart) -> None:
    found = read_settings(environment(chart, SECURED_PROMETHEUS)).prometheus
    assert found is not None
    assert mounted_files(chart, SECURED_PROMETHEUS) == {
        found.ca_file: ("mimir-ca", "ca.crt"),
        found.certificate_file: ("mimir-client", "tls.crt"),
        found.key_file: ("mimir-client", "tls.key"),
        found.username_file: ("mimir-login", "user"),
        found.password_file: ("mimir-login", "password"),
    }
    assert found.headers == {"X-Scope-OrgID": "team-a|team-b"}
    assert found.headers_folder == "/etc/cascade/prometheus-headers"
    assert found.labels == {"cluster": "eu-1"}
    assert (found.timeout_seconds, found.insecure) == (20, False)

    openshift = read_settings(environment(chart, OPENSHIFT_PROMETHEUS)).prometheus
    assert openshift is not None
    assert mounted_files(chart, OPENSHIFT_PROMETHEUS) == {
        openshift.ca_file: ("openshift-service-ca.crt", "service-ca.crt"),
        openshift.token_file: ("serviceAccountToken", ""),
    }


def test_values_reach_the_settings(chart: Chart) -> None:
    settings = read_settings(environment(chart, EVERYTHING_SET))
    assert settings.images.router == "registry.example/cascade/router:1.2.4"
    assert settings.images.simulated_engine == "registry.example/cascade/simulator:1.2.5"
    assert settings.images.vllm == "registry.example/vllm:1"
    assert settings.images.pull_policy == "Always"
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.resync_seconds == 5
    assert settings.log_level == "DEBUG"
    assert settings.prometheus is not None
    assert settings.prometheus.url == f"http://cascade-prometheus.{NAMESPACE}.svc:9090"
    own = read_settings(environment(chart, OWN_PROMETHEUS))
    assert own.prometheus is not None
    assert own.prometheus.url == OWN_PROMETHEUS["prometheus"]["url"]


def test_the_operator_elects_its_leader_in_its_own_namespace_with_the_lease_it_may_write(
    chart: Chart,
) -> None:
    settings = read_settings(environment(chart, {}))
    role = named(chart.manifests(), "Role", "cascade-operator-election")
    lease_names = [rule["resourceNames"] for rule in role["rules"] if "resourceNames" in rule]
    assert lease_names == [[settings.lease_name]]
    assert settings.namespace == role["metadata"]["namespace"] == NAMESPACE
    assert settings.leader_election


def test_the_probes_ask_where_the_operator_listens(chart: Chart) -> None:
    settings = read_settings(environment(chart, {}))
    deployment = named(chart.manifests(), "Deployment", "cascade-operator")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [{"name": "health", "containerPort": settings.health_port}]
