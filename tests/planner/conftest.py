"""Traffic for the planner's tests."""

import csv
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cascade_planner.histogram import Array
from cascade_planner.traffic import Traffic

AZURE = Path(__file__).parents[2] / "e2e/traces/azure_2023_conversation.csv.xz"

TrafficAt = Callable[[float, int], Traffic]
"""(requests per second, max_length) -> traffic."""


@pytest.fixture(scope="session")
def chat_at() -> TrafficAt:
    """Made-up chat: log-normal prompts (median 1000) and outputs (mean near 210)."""
    generator = np.random.default_rng(7)
    prompts = np.clip(np.round(1000 * np.exp(0.8 * generator.standard_normal(4000))), 1, 12000)
    outputs = np.clip(np.round(150 * np.exp(0.8 * generator.standard_normal(4000))), 1, 2000)
    return _at(prompts, prompts + outputs)


@pytest.fixture(scope="session")
def azure_at() -> TrafficAt:
    """The Azure conversation trace of 2023, played at any rate."""
    with lzma.open(AZURE, "rt", encoding="utf-8", newline="") as lines:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(lines)]
    prompts, outputs = np.asarray(rows, dtype=np.float64).T
    return _at(prompts, prompts + outputs)


def _at(prompts: Array, finals: Array) -> TrafficAt:
    def at(requests_per_second: float, max_length: int) -> Traffic:
        seconds = len(prompts) / requests_per_second
        traffic = Traffic.from_lengths(prompts.tolist(), finals.tolist(), seconds, max_length)
        assert isinstance(traffic, Traffic)
        return traffic

    return at
