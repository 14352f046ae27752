"""The chart on a real API server: it installs under the restricted level, its rights suffice."""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from cascade_operator.pod_template import Images
from cascade_operator.resources import (
    Child,
    hop_secret,
    stage_deployment,
    stage_service,
    static_children,
    with_replicas,
)
from cascade_operator.spec import parse_spec
from e2e.cluster import ApiServer
from tests.charts.chart import FOLDER, NAMESPACE, RELEASE, Chart, Values
from tests.charts.variants import (
    EVERYTHING_SET,
    OPENSHIFT_PROMETHEUS,
    OWN_PROMETHEUS,
    SECURED_PROMETHEUS,
)

pytestmark = pytest.mark.api_server

OPERATOR = f"system:serviceaccount:{NAMESPACE}:cascade-operator"
PROMETHEUS = f"system:serviceaccount:{NAMESPACE}:cascade-prometheus"
IMAGES = Images(router="r:1", simulated_engine="s:1", vllm="v:1", pull_policy="Always")
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
DEADLINE_SECONDS = 60.0

SERVICE = {
    "apiVersion": "cascadeservice.dev/v1alpha1",
    "kind": "CascadeService",
    "metadata": {"name": "llama", "namespace": "team-a"},
    "spec": {
        "model": {"name": "llama", "maxLength": 8192},
        "gpuCount": 4,
        "engine": {"type": "simulated"},
    },
}


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
    return done.stdout


def apply(server: ApiServer, manifest: Mapping[str, Any], *options: str) -> None:
    run(*server.kubectl, "apply", "--server-side", *options, "-f", "-", stdin=json.dumps(manifest))


def namespace(server: ApiServer, name: str) -> None:
    apply(
        server,
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}},
    )


def helm(server: ApiServer, *arguments: str) -> str:
    return run(
        str(server.helm), f"--kubeconfig={server.kubeconfig}", "--namespace", NAMESPACE, *arguments
    )


@pytest.fixture(scope="module")
def installed(api_server: ApiServer) -> Iterator[str]:
    """The chart, installed with no values into a restricted namespace; gives what helm printed."""
    namespace(api_server, NAMESPACE)
    namespace(api_server, "team-a")
    yield helm(api_server, "install", RELEASE, str(FOLDER))
    helm(api_server, "uninstall", RELEASE)
    run(*api_server.kubectl, "delete", "--wait=false", "namespace", NAMESPACE, "team-a")


@pytest.fixture(scope="module")
def children(request: pytest.FixtureRequest, api_server: ApiServer) -> list[Child]:
    """Every kind of child that the operator makes for a service."""
    request.getfixturevalue("installed")
    crd = "crd/cascadeservices.cascadeservice.dev"
    run(*api_server.kubectl, "wait", "--for=condition=Established", crd, "--timeout=30s")
    apply(api_server, SERVICE)
    kubectl = [*api_server.kubectl, "--namespace=team-a", "get", "cascadeservice", "llama"]
    spec = parse_spec(json.loads(run(*kubectl, "-o", "json")))
    return [
        *static_children(spec),
        hop_secret(spec, "0" * 64),
        stage_service(spec, 0),
        with_replicas(stage_deployment(spec, IMAGES, 0), 4),
    ]


def test_the_notes_name_the_operator_and_the_next_steps(installed: str) -> None:
    assert "rollout status deployment/cascade-operator" in installed
    assert "kind: CascadeService" in installed
    assert "CustomResourceDefinitions" not in installed


@pytest.mark.usefixtures("installed")
def test_the_pods_are_admitted_under_the_restricted_pod_security_level(
    api_server: ApiServer,
) -> None:
    components: set[str] = set()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while components != {"operator", "prometheus"}:
        assert time.monotonic() < deadline, f"only pods of {components} were admitted"
        listed = run(*api_server.kubectl, "-n", NAMESPACE, "get", "pods", "-o", "json")
        pods = json.loads(listed)["items"]
        components = {p["metadata"]["labels"]["app.kubernetes.io/component"] for p in pods}


def test_the_operator_may_make_every_child_of_a_service(
    children: list[Child], api_server: ApiServer
) -> None:
    for child in children:
        apply(api_server, child.manifest, f"--as={OPERATOR}", "--field-manager=cascade-operator")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("account", "question", "want"),
    [
        pytest.param(OPERATOR, "patch pods", "yes", id="the operator moves pods"),
        pytest.param(
            OPERATOR, "patch cascadeservices --subresource=status", "yes", id="and writes status"
        ),
        pytest.param(OPERATOR, "patch cascadeservices", "no", id="and leaves the spec alone"),
        pytest.param(OPERATOR, "create leases", "no", id="and elects nobody in other namespaces"),
        pytest.param(OPERATOR, "list secrets", "no", id="and cannot list secrets"),
        pytest.param(OPERATOR, "create pods", "no", id="and makes no pods itself"),
        pytest.param(PROMETHEUS, "watch pods", "yes", id="Prometheus finds pods"),
        pytest.param(PROMETHEUS, "get configmaps", "no", id="and sees nothing else"),
    ],
)
def test_rights_are_no_more_than_needed(
    api_server: ApiServer, account: str, question: str, want: str
) -> None:
    asked = subprocess.run(
        [
            *api_server.kubectl,
            "auth",
            "can-i",
            *question.split(),
            "-n",
            "team-a",
            f"--as={account}",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert asked.stdout.strip() == want, asked.stderr


@pytest.mark.usefixtures("installed")
def test_a_namespace_and_the_cluster_have_one_operator_each(api_server: ApiServer) -> None:
    def install(release: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(api_server.helm), f"--kubeconfig={api_server.kubeconfig}", "-n", "team-a"]
        return subprocess.run(
            [*command, "install", release, str(FOLDER), *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    own = ("--set", "watchNamespaces={team-a}")
    first, second, wide = install("first", *own), install("second", *own), install("wide")
    helm(api_server, "uninstall", "first", "--namespace", "team-a")
    assert first.returncode == 0, first.stderr
    assert "metadata: {name: demo, namespace: team-a}" in first.stdout
    for refused in (second, wide):
        assert "cannot be imported into the current release" in refused.stderr


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "values",
    [
        pytest.param(OWN_PROMETHEUS, id="the user's own Prometheus"),
        pytest.param(SECURED_PROMETHEUS, id="the user's own, with credentials"),
        pytest.param(OPENSHIFT_PROMETHEUS, id="OpenShift's own monitoring"),
        pytest.param(EVERYTHING_SET, id="every value set, two namespaces watched"),
    ],
)
def test_the_api_server_accepts_the_chart_with_other_values(
    api_server: ApiServer, chart: Chart, values: Values
) -> None:
    namespace(api_server, "team-b")
    # Another release, so that nothing is mixed with the objects of the first; what both have under
    # one name, the operator's rights, is taken by force, and not for good.
    options = ("--dry-run=server", "--validate=strict", "--force-conflicts")
    for manifest in Chart(chart.helm, release="other").manifests(values):
        apply(api_server, manifest, *options)


@pytest.mark.usefixtures("installed")
def test_an_upgrade_tells_that_helm_leaves_the_crd_alone(api_server: ApiServer) -> None:
    assert "helm show crds" in helm(api_server, "upgrade", RELEASE, str(FOLDER))
