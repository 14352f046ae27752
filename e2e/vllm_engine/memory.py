"""How many engines this machine has room for."""

from pathlib import Path
from typing import Final

MEMORY_GB: Final = 2.5
"""Of one engine, measured: three processes, and one GiB of KV cache in one of them."""
SPARE_GB: Final = 2.0
"""For everything else."""
FEWEST: Final = 2
MOST: Final = 3


def available_gb(page: str | None = None) -> float:
    """Memory that can be had without swapping, by the kernel's page of it."""
    text = Path("/proc/meminfo").read_text(encoding="ascii") if page is None else page
    lines = (line.split() for line in text.splitlines())
    sizes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
    return sizes["MemAvailable:"] * 1024 / 1e9


def engines_for(gigabytes: float) -> int:
    """Engines that fit; fewer than `FEWEST` where not even those do."""
    return min(MOST, int((gigabytes - SPARE_GB) // MEMORY_GB))
