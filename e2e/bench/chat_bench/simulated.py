"""The same question to the simulator: without the noise of a machine, with an H100's step times."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from cascade_planner.traffic import Traffic
from cascade_policy.profiles import profile
from cascade_simulator.cluster import simulate
from cascade_simulator.options import Links, RunOptions
from cascade_simulator.policies.registry import make
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Transport
from cascade_simulator.workload import Workload
from cascade_simulator.workloads import Chat, multi_turn

PROFILE: Final = "h100-8b"
MAX_LENGTH: Final = 32768
BLOCK_TOKENS: Final = 16
POLICIES: Final = {"ours": "price+prefix", "blind": "price", "sticky": "sticky"}
"""The policies of the simulator by the names of the ways: the router's own functions decide."""
LONG_CHATS: Final = Chat(
    mean_turns=6,
    message_mean=350,
    message_deviation=300,
    answer_mean=150,
    answer_deviation=120,
    system_prompt=500,
    think_median_ms=8000,
)


@dataclass(frozen=True)
class Simulated:
    """One way at one rate. Times in ms; the share of prompt tokens that was computed."""

    way: str
    per_second: float
    computed_share: float
    mean_e2e: float
    p99_ttft: float


def simulated(
    instances: int, rates: tuple[float, ...], requests: int, seed: int
) -> Iterator[Simulated]:
    """All ways at each rate (requests per second)."""
    for rate in rates:
        random = np.random.default_rng(seed)
        workload = multi_turn("chat", LONG_CHATS, requests, rate / 1000, random, BLOCK_TOKENS)
        for way, policy in POLICIES.items():
            yield _run(way, policy, workload, instances, rate)


def _run(way: str, policy: str, workload: Workload, instances: int, rate: float) -> Simulated:
    model = profile(PROFILE)
    prompts = [request.prompt for request in workload.requests]
    ends = [request.prompt + request.output for request in workload.requests]
    traffic = Traffic.from_lengths(prompts, ends, len(prompts) / rate, MAX_LENGTH)
    if not isinstance(traffic, Traffic):
        raise AssertionError(f"conversations that make no traffic: {traffic}")
    links = Links(transport=Transport.RECOMPUTE)
    setup = Setup(model, instances, MAX_LENGTH, traffic, links=links)
    options = RunOptions(prefix_cache=True, links=links)
    draw = np.random.default_rng(3).random
    outcome = simulate(workload, model, instances, make(policy, setup), options, draw)
    return Simulated(
        way=way,
        per_second=rate,
        computed_share=round(outcome.counters.prefilled / sum(prompts), 4),
        mean_e2e=round(float((outcome.end_ms - outcome.arrival_ms).mean()), 1),
        p99_ttft=round(float(np.percentile(outcome.ttft_ms, 99)), 1),
    )
