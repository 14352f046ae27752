"""Slice admission on a cluster that is short of memory: nothing is preempted, nobody starves."""

from dataclasses import replace

import numpy as np
import pytest

from cascade_policy.profiles import profile
from cascade_simulator.cluster import simulate
from cascade_simulator.options import Links, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policies.registry import make
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Transport
from cascade_simulator.workload import Request, Workload

SMALL = replace(profile("h100-8b"), kv_capacity_tokens=24_000)
INSTANCES = 4
LONG_PROMPT = 12_000


def overload() -> Workload:
    """Twice what the memory of four small engines can serve; one prompt in 25 is long."""
    random = np.random.default_rng(5)
    arrivals = np.cumsum(random.exponential(9.0, size=500))
    requests = tuple(
        Request(
            float(time),
            LONG_PROMPT if number % 25 == 0 else int(random.integers(200, 1500)),
            int(random.integers(100, 900)),
        )
        for number, time in enumerate(arrivals)
    )
    return Workload("overload", requests)


def run(name: str) -> Outcome:
    links = Links(transport=Transport.COPY)
    setup = Setup(SMALL, INSTANCES, max_length=20_000, links=links)
    random = np.random.default_rng(1).random
    return simulate(
        overload(), SMALL, INSTANCES, make(name, setup), RunOptions(links=links), random
    )


@pytest.mark.parametrize("name", ["price+slices", "price+handover+slices"])
def test_nothing_is_preempted_where_memory_runs_out_without_admission(name: str) -> None:
    admitted, without = run(name), run(name.removesuffix("+slices"))

    assert without.counters.preemptions > 50
    assert admitted.counters.preemptions <= 0.02 * without.counters.preemptions
    assert not np.isnan(admitted.end_ms).any()
    assert admitted.samples.front_queue.max() > 10


def test_long_prompts_do_not_starve_behind_short_ones() -> None:
    outcome = run("price+slices")
    long = outcome.prompt == LONG_PROMPT

    assert outcome.ttft_ms[long].max() <= 1.5 * outcome.ttft_ms[~long].max()
