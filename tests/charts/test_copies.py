"""What the chart repeats of the project, because Helm reads only its own folder."""

import json
import tomllib

import yaml

from cascade_operator.prometheus_settings import URL
from tests.charts.chart import FOLDER, ROOT


def test_the_chart_holds_exactly_the_crd_of_the_project() -> None:
    want = (ROOT / "crds" / "cascadeservice.yaml").read_bytes()
    copy = FOLDER / "crds" / "cascadeservice.yaml"
    assert copy.read_bytes() == want, "refresh it: cp crds/cascadeservice.yaml charts/cascade/crds/"


def test_the_crd_the_chart_and_the_operator_take_the_same_addresses_of_prometheus() -> None:
    crd = (ROOT / "crds" / "cascadeservice.yaml").read_text()
    schema = json.loads((FOLDER / "values.schema.json").read_text())
    chart = schema["properties"]["prometheus"]["properties"]["url"]["pattern"]
    assert chart == f"^$|^{URL.pattern}$"
    assert f"self.matches('^{URL.pattern}$')".replace("\\", "\\\\") in crd


def test_the_chart_installs_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((FOLDER / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (project["version"], project["version"])
