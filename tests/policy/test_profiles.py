"""The built-in cost models: what their files say, that they are possible, and that they travel."""

import json
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import PROFILES, UnknownProfile, profile
from e2e.profiles.memory import kv_memory
from e2e.profiles.targets import H100, LLAMA_8B, LLAMA_70B, TARGETS, Target

ROOT = Path(__file__).resolve().parents[2]
FOLDER = resources.files("cascade_policy.profiles")
DERIVED = {target.profile: target for target in TARGETS}

# Data sheets: HBM bytes/s and dense bf16 FLOP/s of one GPU.
PEAKS = {"h100_sxm": (3.35e12, 989e12), "h200_sxm": (4.8e12, 989e12)}


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text(encoding="utf-8")


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(name))
    return found


def test_the_profiles_are_those_derived_and_the_simulators_own() -> None:
    assert set(PROFILES) == {*DERIVED, "simulated"}


def test_an_unknown_profile_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        UnknownProfile, match="'b200-8b' is not known; use one of h100-70b, h100-8b"
    ):
        profile("b200-8b")


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    found = document(name)
    assert found["profile"] == name
    assert found["gpusPerInstance"] >= 1
    for field in ("model", "gpu", "engine", "method", "source", "date"):
        assert found[field], field
    assert {"msPerStep", "note"} == set(found["overhead"])


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_gives_every_coefficient_under_its_wire_name(name: str) -> None:
    coefficients = document(name)["coefficients"]
    assert coefficients == profile(name).to_json()
    assert EngineModel.from_json(coefficients) == profile(name)


@pytest.mark.parametrize("name", DERIVED)
def test_a_derived_profile_is_honest_about_its_errors_and_its_assumptions(name: str) -> None:
    found = document(name)
    assert "ASSUMED" in found["overhead"]["note"]
    assert "ASSUMED" in found["kvCapacity"]["note"]
    assert "heterogeneity is 0" in found["notMeasured"]
    for kind in ("decode", "fullChunk"):
        errors = found["fitErrorPercent"][kind]
        assert errors["median"] <= 5
        assert errors["median"] <= errors["max"] <= 15


@pytest.mark.parametrize("name", DERIVED)
def test_no_profile_is_faster_than_its_gpu(name: str) -> None:
    target, model = DERIVED[name], profile(name)
    bandwidth, flops = PEAKS[target.gpu.system]
    bandwidth, flops = (peak * target.gpus_per_instance for peak in (bandwidth, flops))
    kv_rate = model.kv_bytes_per_token / (model.per_kv_token_ms * 1e-3)
    assert 0.8 * bandwidth < kv_rate < bandwidth
    weights_read_ms = 2 * target.shape.parameters / bandwidth * 1e3
    assert weights_read_ms < model.base_ms < 2.5 * weights_read_ms
    prefill_rate = 2 * target.shape.parameters / (model.prefill_ms_per_token * 1e-3)
    assert prefill_rate < 1.1 * flops  # The first microseconds of a chunk are paid by C0.


@pytest.mark.parametrize(
    ("target", "bytes_per_token", "weights_gib", "tokens"),
    [
        pytest.param(DERIVED["h100-8b"], 131072, 14.96, 440_000, id="8B on one GPU"),
        pytest.param(DERIVED["h100-70b"], 327680, 32.85, 460_000, id="70B on four GPUs"),
        pytest.param(DERIVED["h200-70b"], 327680, 65.71, 370_000, id="70B on two larger GPUs"),
    ],
)
def test_the_kv_cache_gets_what_weights_and_workspace_leave(
    target: Target, bytes_per_token: int, weights_gib: float, tokens: int
) -> None:
    memory = kv_memory(target)
    assert memory.bytes_per_token == bytes_per_token
    assert memory.weights_gib == weights_gib
    assert memory.tokens == tokens


def test_the_shapes_have_as_many_parameters_as_their_names_say() -> None:
    assert LLAMA_8B.parameters / 1e9 == pytest.approx(8.03, abs=0.005)
    assert LLAMA_70B.parameters / 1e9 == pytest.approx(70.55, abs=0.005)


def test_a_70b_model_does_not_fit_on_one_gpu() -> None:
    assert kv_memory(Target("one", LLAMA_70B, H100, 1, 256)).tokens < 0


@pytest.mark.parametrize("name", DERIVED)
def test_the_readme_tells_the_same_coefficients(name: str) -> None:
    readme = (ROOT / "e2e" / "profiles" / "README.md").read_text()
    (row,) = (line for line in readme.splitlines() if line.startswith(f"| {name} |"))
    cells = [cell.strip().replace(",", "") for cell in row.strip("|").split("|")]
    found, errors = document(name), document(name)["fitErrorPercent"].values()
    names = ("baseMs", "perSequenceMs", "perKvTokenMs", "prefillMsPerToken")
    rest = ("prefillMsPerTokenSquared", "kvCapacityTokens")
    assert int(cells[1]) == found["gpusPerInstance"]
    assert [float(cell) for cell in cells[2:8]] == [found["coefficients"][n] for n in names + rest]
    assert cells[8:] == [f"{error['median']} / {error['max']}" for error in errors]


@pytest.mark.parametrize("name", DERIVED)
def test_the_derivation_gives_the_packaged_file_again(name: str) -> None:
    why = "derives only where e2e/profiles/requirements.txt is installed"
    for package in ("aiconfigurator_core", "pyarrow", "scipy"):
        pytest.importorskip(package, reason=why)
    from e2e.profiles.derivation import derive

    assert derive(DERIVED[name]).file_text() == text_of(name)


def test_the_wheel_carries_the_profiles(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = ZipFile(wheel).namelist()
    assert {f"cascade_policy/profiles/{name}.json" for name in PROFILES} <= set(packed)
