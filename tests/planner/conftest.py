"""Traffic for the planner's tests."""

import csv
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cascade_planner.arrays import Array
from cascade_planner.objective import Objective
from cascade_planner.partition import Partition
from cascade_planner.pricing import Pricing
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel

TRACES = Path(__file__).parents[2] / "e2e/traces"

H100_8B = EngineModel(
    base_ms=7.9,
    per_sequence_ms=0.0083,
    per_kv_token_ms=4.0e-5,
    heterogeneity=0.0,
    prefill_ms_per_token=0.0158,
    prefill_ms_per_token_squared=8.9e-7,
    chunk_tokens=2048,
    kv_capacity_tokens=440_000,
    max_sequences=512,
)
"""The engine with which the reference figures were made; the profile h100-8b is close to it."""

TrafficAt = Callable[[float, int], Traffic]
"""(requests per second, max_length) -> traffic."""
Lengths = tuple[Array, Array]
"""Prompt and output lengths of requests, tokens."""


@pytest.fixture(scope="session")
def chat_at() -> TrafficAt:
    """Made-up chat: log-normal prompts (median 1000) and outputs (mean near 210)."""
    generator = np.random.default_rng(7)
    prompts = np.clip(np.round(1000 * np.exp(0.8 * generator.standard_normal(4000))), 1, 12000)
    outputs = np.clip(np.round(150 * np.exp(0.8 * generator.standard_normal(4000))), 1, 2000)
    return _at(prompts, prompts + outputs)


@pytest.fixture(scope="session")
def azure_lengths() -> Lengths:
    """The Azure conversation trace of 2023."""
    with lzma.open(TRACES / "azure_2023_conversation.csv.xz", "rt", newline="") as lines:
        rows = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(lines)]
    prompts, outputs = np.asarray(rows, dtype=np.float64).T
    return prompts, outputs


@pytest.fixture(scope="session")
def mooncake_lengths() -> Lengths:
    """The Mooncake conversation trace."""
    with lzma.open(TRACES / "mooncake_conversation.jsonl.xz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    prompts = np.asarray([row["input_length"] for row in rows], dtype=np.float64)
    outputs = np.asarray([row["output_length"] for row in rows], dtype=np.float64)
    return prompts, outputs


@pytest.fixture(scope="session")
def azure_at(azure_lengths: Lengths) -> TrafficAt:
    """The Azure conversation trace of 2023, played at any rate."""
    prompts, outputs = azure_lengths
    return _at(prompts, prompts + outputs)


@pytest.fixture(scope="session")
def mooncake_at(mooncake_lengths: Lengths) -> TrafficAt:
    """The Mooncake conversation trace, played at any rate."""
    prompts, outputs = mooncake_lengths
    return _at(prompts, prompts + outputs)


def rate_of_load(at: TrafficAt, engine: EngineModel, instances: int, load: float) -> float:
    """Requests per second that load one pool of `instances` to `load` of its stability limit."""
    pool = Partition((131072,), (instances,))
    _, state = Pricing(at(1, 131072), engine, Objective()).forecast(pool)
    return load / float(state.load[0])


def _at(prompts: Array, finals: Array) -> TrafficAt:
    def at(requests_per_second: float, max_length: int) -> Traffic:
        seconds = len(prompts) / requests_per_second
        traffic = Traffic.from_lengths(prompts.tolist(), finals.tolist(), seconds, max_length)
        assert isinstance(traffic, Traffic)
        return traffic

    return at
