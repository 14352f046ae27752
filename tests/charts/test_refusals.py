"""Values that cannot work are refused at install, in words that say which value and what to do."""

import pytest

from tests.charts.chart import Chart, Refused, Values

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
