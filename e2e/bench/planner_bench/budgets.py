"""The times that planning may take: `budgets.json`, beside the measurement they come from."""

import json
from collections.abc import Mapping
from pathlib import Path

FILE = Path(__file__).with_name("budgets.json")


def budgets() -> dict[int, float]:
    """Instances -> ms that the median may take."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return {int(instances): float(ms) for instances, ms in data["medianMs"].items()}


def measured() -> dict[int, float]:
    """Instances -> ms of the median that the budgets come from."""
    data = json.loads(FILE.read_text(encoding="utf-8"))
    return {int(instances): float(ms) for instances, ms in data["measured"]["medianMs"].items()}


def exceeded(median_ms: Mapping[int, float], allowed: Mapping[int, float]) -> list[str]:
    """A sentence for each median beyond its budget."""
    return [
        f"over budget: a plan for {instances} instances takes {ms:.1f} ms (median), "
        f"{allowed[instances]:g} ms are allowed"
        for instances, ms in median_ms.items()
        if ms > allowed.get(instances, float("inf"))
    ]
