"""A few seconds of inputs that follow the coverage of the code, where atheris is installed."""

import importlib.util
import subprocess
import sys

import pytest

from tests.fuzz.coverage_guided import TARGETS, divided

SECONDS = 5


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed (pip install --require-hashes -r tests/fuzz/requirements.txt)",
)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_breaks_a_property(target: str) -> None:
    command = (sys.executable, "-m", "tests.fuzz.coverage_guided", target)
    ran = subprocess.run(
        [*command, "--seconds", str(SECONDS)], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr[-4000:]
    assert "DONE" in ran.stderr


def test_an_input_says_where_it_is_cut() -> None:
    assert divided(b"") == (b"", [])
    assert divided(b"\x02\x00\x80abcd") == (b"abcd", [0, 2])
    assert divided(b"\x08\x80") == (b"", [0])
