"""Traffic whose lengths are a continuum, and may drift."""

import numpy as np

from cascade_planner.traffic import Traffic
from tests.operator.test_decide import MAX_LENGTH

RATE = 11.0
"""Requests per second at no growth: half as many are work for as much time when prompts double."""


def chat(requests: int, growth: float = 1.0, seed: int = 0) -> Traffic:
    """A window of so many requests: log-normal prompts (median 500 tokens times `growth`) and
    outputs (median 150), as chance has it."""
    chance = np.random.default_rng(seed)
    prompts = np.round(500 * growth * np.exp(1.0 * chance.standard_normal(requests)))
    outputs = np.round(150 * np.exp(0.8 * chance.standard_normal(requests)))
    prompts, outputs = np.clip(prompts, 1, 14000), np.clip(outputs, 1, 2000)
    found = Traffic.from_lengths(prompts, prompts + outputs, requests * growth / RATE, MAX_LENGTH)
    assert isinstance(found, Traffic)
    return found
