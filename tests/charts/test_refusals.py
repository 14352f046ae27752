"""Values that cannot work are refused at install, in words that say which value and what to do."""

import pytest

from tests.charts.chart import Chart, Refused, Values


def own(**values: object) -> Values:
    """The user's own Prometheus, with further values."""
    return {"prometheus": {"bundled": False, "url": "https://prometheus:9090", **values}}


REFUSALS: list[tuple[str, Values, str]] = [
    ("a misspelt value", {"replica": 2}, "'replica' not allowed"),
    ("a misspelt nested value", {"prometheus": {"bundeled": True}}, "'bundeled' not allowed"),
    ("a misspelt image value", {"router": {"image": {"tags": "x"}}}, "'tags' not allowed"),
    (
        "an image given as one string",
        {"image": "example/operator:1"},
        "/image': got string, want object",
    ),
    (
        "a digest pasted into the repository",
        {"image": {"repository": "a@sha256:0"}},
        "/image/repository",
    ),
    ("an image without a repository", {"image": {"repository": ""}}, "/image/repository"),
    ("an unknown pull policy", {"image": {"pullPolicy": "Sometimes"}}, "'IfNotPresent'"),
    ("replicas as a word", {"replicas": "two"}, "/replicas': got string, want integer"),
    ("an unknown log level", {"logLevel": "LOUD"}, "'WARNING'"),
    ("a resync without a pause", {"resyncSeconds": 0}, "/resyncSeconds"),
    ("a namespace that cannot exist", {"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0"),
    ("one namespace named twice", {"watchNamespaces": ["a", "a"]}, "/watchNamespaces"),
    (
        "an interval without a unit",
        {"prometheus": {"scrapeInterval": "5"}},
        "/prometheus/scrapeInterval",
    ),
    ("an address that is not a URL", {"prometheus": {"url": "prometheus:9090"}}, "/prometheus/url"),
    (
        "two Prometheus servers, the bundled one and the user's",
        {"prometheus": {"url": "http://prometheus:9090"}},
        "add prometheus.bundled=false to use your own Prometheus",
    ),
    (
        "no Prometheus at all",
        {"prometheus": {"bundled": False}},
        "name your own Prometheus in prometheus.url",
    ),
    (
        "a user and a password in the address",
        own(url="https://me:secret@prometheus"),
        "/prometheus/url",
    ),
    (
        "credentials for the bundled Prometheus",
        {"prometheus": {"bearerTokenSecret": {"name": "token"}}},
        "prometheus.bearerTokenSecret is for a Prometheus of your own: set prometheus.bundled=",
    ),
    (
        "a bearer token and a password",
        own(bearerTokenSecret={"name": "token"}, basicAuthSecret={"name": "login"}),
        "prometheus.bearerTokenSecret and prometheus.basicAuthSecret exclude each other",
    ),
    (
        "two bearer tokens",
        own(bearerTokenFile="/token", serviceAccountToken={"enabled": True}),
        "prometheus.bearerTokenFile and prometheus.serviceAccountToken exclude each other",
    ),
    (
        "a client certificate without its key",
        own(clientCertificateFile="/tls.crt"),
        "prometheus.clientCertificateFile and prometheus.clientKeyFile go together: set both",
    ),
    (
        "a client certificate whose key has no name in the Secret",
        own(clientCertificateSecret={"name": "client", "key": ""}),
        "/prometheus/clientCertificateSecret/key",
    ),
    (
        "authorities, and no check of certificates",
        own(caSecret={"name": "ca"}, insecureSkipVerify=True),
        "prometheus.caSecret and prometheus.insecureSkipVerify exclude each other",
    ),
    (
        "authorities for an address without TLS",
        own(url="http://prometheus:9090", caSecret={"name": "ca"}),
        "prometheus.caSecret is about certificates, but prometheus.url begins with http://",
    ),
    (
        "a secret header among the values",
        own(headers={"authorization": "Bearer secret"}),
        "put an Authorization header into a Secret and name it in prometheus.headersSecret",
    ),
    (
        "a label that is the routers' own",
        own(labels={"namespace": "a"}),
        "prometheus.labels names namespace, which is a label of the routers' own: leave it out",
    ),
    ("spaces around a header", own(headers={"X-Scope": " a"}), "/prometheus/headers/X-Scope"),
    ("an address with half a bracket", own(url="https://[::1"), "/prometheus/url"),
    ("a port that is a word", own(url="https://prometheus:web"), "/prometheus/url"),
    ("a header that is none", own(headers={"X Scope": "a"}), "/prometheus/headers"),
    ("a label that is none", own(labels={"my-cluster": "a"}), "/prometheus/labels"),
    ("a relative path", own(bearerTokenFile="token"), "/prometheus/bearerTokenFile"),
    (
        "an existing service account without its name",
        {"serviceAccount": {"create": False}},
        "name the existing account in serviceAccount.name",
    ),
]


@pytest.mark.parametrize(
    ("values", "want"),
    [(values, want) for _, values, want in REFUSALS],
    ids=[c[0] for c in REFUSALS],
)
def test_values_that_cannot_work_are_refused_with_a_clear_message(
    chart: Chart, values: Values, want: str
) -> None:
    with pytest.raises(Refused) as refusal:
        chart.text(values)
    assert want in str(refusal.value)
