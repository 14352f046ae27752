"""The compiler is followed to its end, whatever it says."""

import gc
import os
import sys
from pathlib import Path

import pytest

from e2e.cluster.binaries import KUBERNETES, _compile
from e2e.cluster.errors import ClusterError


def compile_by(code: str, folder: Path) -> None:
    """Run this Python code in the compiler's place."""
    _compile([sys.executable, "-c", code], folder, dict(os.environ), KUBERNETES, lambda _: None)
    # A pipe that was left open would be warned of here, which fails the test.
    gc.collect()


def test_a_compiler_that_ends_well_leaves_nothing_open(tmp_path: Path) -> None:
    compile_by("print('k8s.io/a'); print('k8s.io/b')", tmp_path)


def test_a_compiler_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"(?s)failed .*no space left on device.*disk"):
        compile_by("print('no space left on device'); raise SystemExit(1)", tmp_path)
