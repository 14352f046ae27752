"""The chart and the operator agree on the operator's environment."""

from collections.abc import Iterator, Mapping

from cascade_operator.settings import read_settings
from tests.charts.chart import NAMESPACE, Chart, Values, named
from tests.charts.variants import EVERYTHING_SET, OWN_PROMETHEUS

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


def test_the_operator_reads_every_variable_that_the_chart_sets(chart: Chart) -> None:
    seen = environment(chart, EVERYTHING_SET)
    read_settings(seen)
    extra = {entry["name"] for entry in EVERYTHING_SET["extraEnv"]}
    assert set(seen) - seen.asked == extra


def test_values_reach_the_settings(chart: Chart) -> None:
    settings = read_settings(environment(chart, EVERYTHING_SET))
    assert settings.images.router == "registry.example/cascade/router:1.2.4"
    assert settings.images.simulated_engine == "registry.example/cascade/simulator:1.2.5"
    assert settings.images.vllm == "registry.example/vllm:1"
    assert settings.images.pull_policy == "Always"
    assert settings.watch_namespaces == ("team-a", "team-b")
    assert settings.resync_seconds == 5
    assert settings.log_level == "DEBUG"
    assert settings.prometheus_url == f"http://cascade-prometheus.{NAMESPACE}.svc:9090"
    own = read_settings(environment(chart, OWN_PROMETHEUS))
    assert own.prometheus_url == OWN_PROMETHEUS["prometheus"]["url"]


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
