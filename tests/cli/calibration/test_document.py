"""The profile and the patch that a calibration comes to, and its page."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cascade_cli.calibrate_output import Outcome, print_outcome
from cascade_cli.calibration.decode_steps import DecodeStep
from cascade_cli.calibration.document import (
    Capacity,
    Identity,
    engine_of,
    profile_document,
    resource_patch,
)
from cascade_cli.calibration.fit import Estimate, Fit, HeldOut
from cascade_cli.calibration.prefill_work import PrefillWork
from cascade_cli.pool import profile_documents
from cascade_cli.report.calibration_page import render
from cascade_policy.engine_model import EngineModel
from tests.cli.test_report import Page, numbers

CRD = Path(__file__).resolve().parents[3] / "crds" / "cascadeservice.yaml"
ESTIMATES = {
    "baseMs": Estimate(8.123456, 8.0, 8.2),
    "perSequenceMs": Estimate(0.011, 0.0, 0.05),
    "perKvTokenMs": Estimate(4.2e-5, 4.0e-5, 4.4e-5),
    "heterogeneity": Estimate(0.0, 0.0, math.inf),
    "prefillMsPerToken": Estimate(0.016, 0.0155, 0.0165),
    "prefillMsPerTokenSquared": Estimate(7.4e-7, 7e-7, 7.8e-7),
}
FIT = Fit(ESTIMATES, HeldOut(9, 0.011, 0.05), HeldOut(4, 0.02, 0.3), (0.01, -0.01), (0.0, 0.02))
CAPACITY = Capacity(2048, True, 30_000, 400_000, 16, 128, 65536)
IDENTITY = Identity("mine", "<model>", "NVIDIA L4", 1, "0.32.0", "2026-11-27")
STEPS = (
    DecodeStep("batch 1", 1, 100.0, 0.0, 8.1, 0.1, 8.2),
    DecodeStep("length 1", 2, 9000.0, 0.9, 9.1, 0.1, 9.9),
)
WORKS = (PrefillWork("prompt 100", 100, 0, 1.6, 0.1, 1), PrefillWork("p", 9000, 0, 174, 1, 5))


def outcome(capacity: Capacity = CAPACITY) -> Outcome:
    document = profile_document(IDENTITY, FIT, capacity, ["A note."])
    return Outcome(document, FIT, capacity, STEPS, WORKS, ("A note.",))


def test_a_profile_has_all_that_those_that_come_along_have() -> None:
    document = profile_document(IDENTITY, FIT, CAPACITY, [])
    simulated = profile_documents()["simulated"]
    assert simulated.keys() - document.keys() == {"overhead"}
    assert document["coefficients"].keys() == simulated["coefficients"].keys()
    assert EngineModel.from_json(document["coefficients"]) == engine_of(FIT, CAPACITY)
    assert document["coefficients"]["baseMs"] == 8.123


def test_a_profile_is_json_although_an_interval_has_no_end() -> None:
    document = profile_document(IDENTITY, FIT, CAPACITY, [])
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["intervals"]["heterogeneity"] == [0.0, None]


def test_what_nobody_measured_is_assumed_aloud() -> None:
    known = profile_document(IDENTITY, FIT, CAPACITY, [])
    bare = replace(CAPACITY, chunk_tokens=None, sequences=None, kv_bytes_per_token=None)
    assumed = profile_document(IDENTITY, FIT, bare, [])
    assert "ASSUMED" not in known["notMeasured"]
    assert assumed["notMeasured"].count("ASSUMED") == 3
    # A chunk is at least what was computed at once.
    assert assumed["coefficients"]["chunkTokens"] == 32768
    assert "heterogeneity" in known["notMeasured"]


def test_a_patch_has_exactly_the_fields_of_the_resource() -> None:
    crd = yaml.safe_load(CRD.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    cost_model = spec["properties"]["planning"]["properties"]["costModel"]["properties"]
    patch = resource_patch(engine_of(FIT, CAPACITY))["spec"]["planning"]["costModel"]
    assert patch["coefficients"].keys() == cost_model["coefficients"]["properties"].keys()
    # The resource takes one of both; a merge patch removes what is null.
    assert patch["profile"] is None


def test_the_answer_for_people_has_each_coefficient_and_the_errors(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_outcome(outcome())
    said = capsys.readouterr().out
    assert all(name in said for name in ESTIMATES)
    assert "0 to any" in said
    assert "1.1 % off in the median" in said
    assert "Stalls" in said
    assert said == "\n".join(line.rstrip() for line in said.splitlines()) + "\n"


def test_the_page_draws_every_measurement_and_escapes_names() -> None:
    page = Page(render(outcome()))
    assert len(page.figures) == 3
    decode = page.figures["plot-0"]["data"]
    assert [trace["name"] for trace in decode[::2]] == ["batch", "length"]
    assert numbers(decode[2]["y"]) == [9.1]
    assert numbers(page.figures["plot-1"]["data"][0]["y"]) == [1.6, 174]
    assert "<model>" in page.headings[0]
