"""What a burst took goes back to the system."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROUTER = Path(__file__).resolve().parents[3] / "router"
BURST = """
import resource, sys
from pathlib import Path
from cascade_router.process_limits import return_memory

def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

if sys.argv[1] == "returning":
    return_memory()
bytearray(200_000)[:]  # The first large buffer that is freed raises the thresholds.
before = rss()
pairs = [(bytearray(90_000), bytearray(1_000)) for _ in range(300)]
small = [pair[1] for pair in pairs]  # What lives on, between the large ones.
del pairs
print(rss() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do it anyway")
def test_large_buffers_are_returned_although_small_ones_between_them_live_on() -> None:
    kept = {
        how: int(
            subprocess.run(
                [sys.executable, "-c", BURST, how],
                env={"PYTHONPATH": str(ROUTER)},
                check=True,
                capture_output=True,
                timeout=60,
            ).stdout
        )
        for how in ("returning", "plain")
    }
    assert kept["returning"] < 2_000_000
    assert kept["plain"] > 20_000_000, "shows that the former can fail"
