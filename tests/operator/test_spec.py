"""Reading a CascadeService."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cascade_operator.errors import Stalled
from cascade_operator.plans import first_plan
from cascade_operator.resources import stage_map_of
from cascade_operator.spec import DEFAULT_PROFILE, EngineType, parse_spec
from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import PROFILES
from cascade_policy.stage_map import StageMap
from tests.operator.builders import NOW, resource, service

ROOT = Path(__file__).parents[2]

COEFFICIENTS = PROFILES["h100-8b"].to_json() | {"baseMs": 3.5}


def test_defaults_are_those_of_the_schema() -> None:
    schema = yaml.safe_load((ROOT / "crds" / "cascadeservice.yaml").read_text())
    spec = schema["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]

    def filled(properties: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
        result = dict(given)
        for name, part in properties.items():
            if name not in result and "default" in part:
                result[name] = part["default"]
            if isinstance(result.get(name), dict) and "properties" in part:
                result[name] = filled(part["properties"], result[name])
        return result

    bare = resource()
    explicit = {**bare, "spec": filled(spec["properties"], bare["spec"])}
    assert "objective" in explicit["spec"]
    assert parse_spec(explicit) == parse_spec(bare)


@pytest.mark.parametrize(
    ("case", "spec", "want"),
    [
        ("gpuCount over gpusPerInstance", {"gpuCount": 8, "gpusPerInstance": 4}, 2),
        ("instances win over gpuCount", {"gpuCount": 8, "instances": 3}, 3),
        ("one GPU per instance unless said otherwise", {"gpuCount": 8}, 8),
    ],
)
def test_instances(case: str, spec: dict[str, Any], want: int) -> None:
    assert service(**spec).instances == want, case


@pytest.mark.parametrize(
    ("case", "engine", "cost_model", "want"),
    [
        ("vllm: an H100", "vllm", None, PROFILES["h100-8b"]),
        ("simulated: itself", "simulated", None, PROFILES["simulated"]),
        ("a named profile", "simulated", {"profile": "h100-8b"}, PROFILES["h100-8b"]),
        (
            "coefficients",
            "vllm",
            {"coefficients": COEFFICIENTS},
            EngineModel.from_json(COEFFICIENTS),
        ),
    ],
)
def test_engine_model(
    case: str, engine: str, cost_model: dict[str, Any] | None, want: EngineModel
) -> None:
    planning = {} if cost_model is None else {"costModel": cost_model}
    found = service(engine={"type": engine}, planning=planning)
    assert found.planning.engine_model == want, case


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"gpuCount": 1, "gpusPerInstance": 2}, "raise gpuCount"),
        ({"planning": {"costModel": {"profile": "tpu"}}}, "'tpu' is not known; use one of"),
        ({"instances": 2, "planning": {"boundaries": [64, 128]}}, "remove boundaries or add"),
        (
            {"planning": {"costModel": {"coefficients": {**COEFFICIENTS, "baseMs": -1}}}},
            "baseMs must be above 0",
        ),
    ],
)
def test_what_contradicts_itself_is_refused_with_a_remedy(spec: dict[str, Any], words: str) -> None:
    with pytest.raises(Stalled, match=words):
        service(**spec)


@pytest.mark.parametrize(
    ("handoff", "want"),
    [
        pytest.param({}, "warm", id="warm unless said otherwise"),
        pytest.param({"transport": "recompute"}, "recompute", id="as said"),
    ],
)
def test_the_transport_of_handovers_reaches_the_routers(handoff: dict[str, Any], want: str) -> None:
    spec = service(handoff=handoff)
    stage_map = stage_map_of(spec, first_plan(spec, NOW), "2026-02-02T02:40:00Z")
    assert StageMap.loads(stage_map.dumps()).handoff.transport == want


def test_profiles_of_the_schema_exist() -> None:
    text = (ROOT / "crds" / "cascadeservice.yaml").read_text()
    assert f"enum: [{', '.join(sorted(PROFILES))}]" in text
    assert set(DEFAULT_PROFILE) == set(EngineType)
    assert set(DEFAULT_PROFILE.values()) <= set(PROFILES)


def test_the_addresses_of_prometheus_that_the_schema_takes() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "cascadeservice.yaml").read_text())
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    url = schema["properties"]["spec"]["properties"]["prometheus"]["properties"]["url"]
    found = re.fullmatch(r"self\.matches\('(.*)'\)", url["x-kubernetes-validations"][0]["rule"])
    assert found is not None
    pattern = re.compile(found[1].replace("\\\\", "\\"))
    for good in (
        "http://prometheus",
        "https://prometheus.monitoring.svc:9090",
        "http://10.0.0.1:9090/prefix/",
        "http://[fd00::1]:9090/select/0/prometheus",
    ):
        assert pattern.search(good), good
    for bad in ("prometheus", "ftp://p", "http://u@p", "http://u:p@p", "http://p/?q", "http://p#f"):
        assert not pattern.search(bad), bad
