"""What the chart renders, whole. A change here is a change for every user: read the difference."""

from pathlib import Path

import pytest

from tests.charts.chart import Chart, Values
from tests.charts.variants import (
    EVERYTHING_SET,
    OPENSHIFT_PROMETHEUS,
    OWN_PROMETHEUS,
    SECURED_PROMETHEUS,
)
from tests.conftest import Golden

GOLDEN = Path(__file__).parent / "golden"

CASES = [
    pytest.param("defaults", {}, id="helm install with no values"),
    pytest.param("own-prometheus", OWN_PROMETHEUS, id="the user's own Prometheus"),
    pytest.param("secured-prometheus", SECURED_PROMETHEUS, id="the user's own, with credentials"),
    pytest.param("openshift-prometheus", OPENSHIFT_PROMETHEUS, id="OpenShift's own monitoring"),
    pytest.param("everything-set", EVERYTHING_SET, id="every value set, two namespaces watched"),
]


@pytest.mark.parametrize(("name", "values"), CASES)
def test_the_chart_renders_what_the_golden_file_holds(
    chart: Chart, golden: Golden, name: str, values: Values
) -> None:
    golden(GOLDEN / f"{name}.yaml", chart.text(values))
