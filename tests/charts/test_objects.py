"""Properties that every rendered object has, whatever the values."""

import re
from collections.abc import Iterator

import pytest
import yaml

from cascade_operator.territory import GRANT_NAME
from cascade_policy import names
from tests.charts.chart import NAMESPACE, Chart, Manifest, Values, named, pods
from tests.charts.variants import (
    EVERYTHING_SET,
    OPENSHIFT_PROMETHEUS,
    OWN_PROMETHEUS,
    SECURED_PROMETHEUS,
)

VARIANTS = [
    pytest.param({}, id="defaults"),
    pytest.param(OWN_PROMETHEUS, id="own Prometheus"),
    pytest.param(SECURED_PROMETHEUS, id="own Prometheus with credentials"),
    pytest.param(OPENSHIFT_PROMETHEUS, id="OpenShift's own monitoring"),
    pytest.param(EVERYTHING_SET, id="everything set"),
]
CLUSTER_SCOPED = {"ClusterRole", "ClusterRoleBinding"}


@pytest.fixture(params=VARIANTS)
def manifests(request: pytest.FixtureRequest, chart: Chart) -> list[Manifest]:
    return chart.manifests(request.param)


def containers(manifests: list[Manifest]) -> Iterator[Manifest]:
    for pod in pods(manifests):
        yield from pod["containers"]
        yield from pod.get("initContainers", [])


def rules(manifests: list[Manifest]) -> Iterator[Manifest]:
    for manifest in manifests:
        yield from manifest.get("rules", [])


def environment(manifests: list[Manifest]) -> dict[str, str]:
    operator = named(manifests, "Deployment", "cascade-operator")
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value", "") for entry in container["env"]}


def test_helm_lint_is_content(chart: Chart) -> None:
    assert "0 chart(s) failed" in chart.lint()


def test_every_pod_satisfies_the_restricted_pod_security_level(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert all("hostPath" not in volume for volume in pod["volumes"])
    for container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True


def test_every_image_has_a_fixed_tag(manifests: list[Manifest]) -> None:
    images = [container["image"] for container in containers(manifests)]
    images += [value for name, value in environment(manifests).items() if name.endswith("_IMAGE")]
    for image in images:
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image), image


def test_every_container_has_probes_requests_and_a_memory_limit(manifests: list[Manifest]) -> None:
    for container in containers(manifests):
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        assert "memory" in container["resources"]["limits"]


def test_no_rule_has_a_wildcard(manifests: list[Manifest]) -> None:
    for rule in rules(manifests):
        assert not any("*" in entry for values in rule.values() for entry in values), rule


def test_nobody_may_read_secrets_in_bulk(manifests: list[Manifest]) -> None:
    for rule in rules(manifests):
        if "secrets" in rule["resources"]:
            assert not {"list", "watch", "delete", "deletecollection"} & set(rule["verbs"])


def test_every_object_carries_the_recommended_labels_and_its_namespace(
    manifests: list[Manifest],
) -> None:
    for manifest in manifests:
        labels = manifest["metadata"]["labels"]
        assert {
            names.LABEL_APP_NAME,
            names.LABEL_APP_INSTANCE,
            names.LABEL_APP_COMPONENT,
        } <= labels.keys()
        assert labels[names.LABEL_APP_MANAGED_BY] == "Helm"
        assert (manifest["kind"] in CLUSTER_SCOPED) == ("namespace" not in manifest["metadata"])


def test_no_object_can_be_taken_for_an_inference_pod(manifests: list[Manifest]) -> None:
    assert names.LABEL_SERVICE not in yaml.safe_dump([m["metadata"] for m in manifests])
    assert all(names.LABEL_SERVICE not in yaml.safe_dump(pod) for pod in pods(manifests))


def test_every_binding_joins_a_rendered_role_and_a_rendered_account(
    manifests: list[Manifest],
) -> None:
    def key(kind: str, manifest: Manifest) -> tuple[str, str, str]:
        return kind, manifest["metadata"]["name"], manifest["metadata"].get("namespace", "")

    roles = {key(m["kind"], m) for m in manifests if m["kind"] in {"Role", "ClusterRole"}}
    accounts = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    used = set()
    for binding in (m for m in manifests if m["kind"].endswith("Binding")):
        role = binding["roleRef"]
        home = binding["metadata"]["namespace"] if role["kind"] == "Role" else ""
        used.add((role["kind"], role["name"], home))
        assert [(s["name"] in accounts, s["namespace"]) for s in binding["subjects"]] == [
            (True, NAMESPACE)
        ]
    assert used == roles
    assert {pod["serviceAccountName"] for pod in pods(manifests)} == accounts


def test_with_watched_namespaces_nothing_is_granted_elsewhere(chart: Chart) -> None:
    manifests = chart.manifests({"watchNamespaces": ["team-a", "team-b"]})
    assert not [m for m in manifests if m["kind"] in CLUSTER_SCOPED]
    grants = {m["metadata"]["namespace"] for m in manifests if m["kind"] == "RoleBinding"}
    assert grants == {"team-a", "team-b", NAMESPACE}
    in_own = [
        m for m in manifests if m["kind"] == "Role" and m["metadata"]["namespace"] == NAMESPACE
    ]
    assert [m["metadata"]["name"] for m in in_own] == ["cascade-operator-election"]
    assert environment(manifests)["CASCADE_WATCH_NAMESPACES"] == "team-a,team-b"


@pytest.mark.parametrize("values", [{}, {"watchNamespaces": ["team-a", "team-b"]}])
def test_operators_of_all_releases_have_their_rights_under_one_name(
    chart: Chart, values: Values
) -> None:
    """So helm refuses a second one over a namespace, and that of the cluster sees the others."""
    for release in ("one", "two"):
        manifests = Chart(chart.helm, release=release).manifests(values)
        grants = [
            m
            for m in manifests
            if m["kind"].endswith(("Role", "RoleBinding"))
            and m["metadata"]["name"] != f"{release}-operator-election"
            and m["metadata"]["labels"][names.LABEL_APP_COMPONENT] == "operator"
        ]
        assert {m["metadata"]["name"] for m in grants} == {GRANT_NAME}
        places = {m["metadata"].get("namespace") for m in grants}
        assert places == set(values.get("watchNamespaces", [None]))


def test_the_operator_reads_the_prometheus_that_the_values_name(chart: Chart) -> None:
    bundled = chart.manifests()
    service = named(bundled, "Service", "cascade-prometheus")
    (port,) = service["spec"]["ports"]
    want = f"http://{service['metadata']['name']}.{NAMESPACE}.svc:{port['port']}"
    assert environment(bundled)["CASCADE_PROMETHEUS_URL"] == want

    own = chart.manifests(OWN_PROMETHEUS)
    assert environment(own)["CASCADE_PROMETHEUS_URL"] == OWN_PROMETHEUS["prometheus"]["url"]
    assert "prometheus" not in {m["metadata"]["labels"][names.LABEL_APP_COMPONENT] for m in own}


def test_prometheus_looks_for_the_label_and_the_port_of_inference_pods(chart: Chart) -> None:
    config_map = named(chart.manifests(), "ConfigMap", "cascade-prometheus")
    (job,) = yaml.safe_load(config_map["data"]["prometheus.yml"])["scrape_configs"]
    (discovery,) = job["kubernetes_sd_configs"]
    assert discovery["selectors"] == [{"role": "pod", "label": names.LABEL_SERVICE}]
    (port,) = [r for r in job["relabel_configs"] if r["source_labels"][0].endswith("port_number")]
    assert (port["regex"], port["action"]) == (str(names.PORT_ROUTER), "keep")
    meta = re.sub(r"[^a-zA-Z0-9_]", "_", names.LABEL_SERVICE)
    (service,) = [r for r in job["relabel_configs"] if r.get("target_label") == "service"]
    assert service["source_labels"] == [f"__meta_kubernetes_pod_label_{meta}"]


def test_a_changed_prometheus_configuration_restarts_prometheus(chart: Chart) -> None:
    def checksum(values: Values) -> str:
        deployment = named(chart.manifests(values), "Deployment", "cascade-prometheus")
        found: str = deployment["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
        return found

    assert checksum({}) != checksum({"prometheus": {"scrapeInterval": "7s"}})
    assert checksum({}) == checksum({"logLevel": "DEBUG"})


def test_names_stay_within_the_limit_for_the_longest_release_name(chart: Chart) -> None:
    longest = Chart(chart.helm, release="r" * 53).manifests()
    assert max(len(m["metadata"]["name"]) for m in longest) <= 63
