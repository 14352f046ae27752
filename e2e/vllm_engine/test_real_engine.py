"""The short form of `e2e/vllm`: our routers before real engines, one test for each check."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.local_service.service import ROOT
from e2e.vllm_engine.checks import chosen
from e2e.vllm_engine.installation import installed
from e2e.vllm_engine.memory import available_gb

NEEDED_GB = 12.0
"""Two engines take five; the rest is for what else runs on a machine that tests."""
MOST_SECONDS = 1800


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the command writes."""
    free = available_gb()
    if free < NEEDED_GB:
        pytest.skip(f"real engines need {NEEDED_GB:g} GB of free memory, here are {free:.1f}")
    file: Path = tmp_path_factory.mktemp("vllm") / "figures.json"
    command = [str(ROOT / "e2e" / "vllm"), "--short", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, timeout=MOST_SECONDS, check=False)
    assert file.exists(), f"e2e/vllm --short ended with status {done.returncode}, see above"
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["checks"]
    return figures


@pytest.mark.parametrize("check", chosen(None))
def test_routers_before_real_engines_pass(found: dict[str, Any], check: str) -> None:
    assert found[check]["passed"], json.dumps(found[check], indent=1)[:4000]


@pytest.mark.usefixtures("found")
def test_the_kernels_of_the_gpu_bench_compute_attention() -> None:
    """Here, where PyTorch is; Triton's are interpreted."""
    environment = {**os.environ, "PYTHON": str(installed().python)}
    command = [str(ROOT / "e2e" / "bench" / "gpu")]
    done = subprocess.run(
        command, env=environment, timeout=300, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "computed 6 batches right" in done.stdout
