"""Every policy on a small cluster: all requests complete, by each transport."""

import numpy as np
import pytest

from cascade_simulator.cluster import simulate
from cascade_simulator.options import Failure, Links, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policies.registry import NAMES, make
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policy import Transport
from cascade_simulator.workload import Request, Workload
from tests.simulator.policies.scripted import ENGINE, MAX_LENGTH, traffic

PROMPTS = (200, 600, 3000, 9000)
OUTPUTS = (150, 400, 200, 300)
# What was seen before is a little different, so that sequences outgrow their stages.
KNOWN = traffic([200, 200, 12_000], [150, 200, 300], per_second=20.0)


def chats(count: int) -> Workload:
    """Requests in sessions of four, 40 ms apart, blocks of 256 tokens."""
    requests = (
        Request(
            arrival_ms=40.0 * number,
            prompt=PROMPTS[number % 4],
            output=OUTPUTS[number // 4 % 4],
            blocks=tuple(range(1000 * (number % 7), 1000 * (number % 7) + 36)),
            session=number // 4,
        )
        for number in range(count)
    )
    return Workload("chats", tuple(requests), block_tokens=256)


def run(name: str, transport: Transport, options: RunOptions) -> Outcome:
    links = Links(transport=transport)
    setup = Setup(ENGINE, 8, MAX_LENGTH, KNOWN, links=links, replan_seconds=2.0, refine_seconds=1.0)
    random = np.random.default_rng(1).random
    return simulate(chats(200), ENGINE, 8, make(name, setup), options, random)


@pytest.mark.parametrize("name", NAMES)
def test_everything_completes(name: str) -> None:
    options = RunOptions(
        links=Links(transport=Transport.COPY),
        stale_ms=20.0,
        prefix_cache=True,
        failures=tuple(Failure(instance, 2000.0, 4000.0) for instance in range(1, 4)),
    )
    outcome = run(name, Transport.COPY, options)
    assert not np.isnan(outcome.end_ms).any()
    assert outcome.counters.rescues > 0


@pytest.mark.parametrize("transport", Transport)
def test_hand_over_completes_by_each_transport(transport: Transport) -> None:
    options = RunOptions(links=Links(transport=transport))
    outcome = run("cascade-hard+handover", transport, options)
    assert not np.isnan(outcome.end_ms).any()
    assert outcome.counters.handovers > 0


def test_prefix_knowledge_computes_less() -> None:
    options = RunOptions(prefix_cache=True)
    blind = run("price", Transport.RECOMPUTE, options)
    knowing = run("price+prefix", Transport.RECOMPUTE, options)
    assert knowing.counters.prefilled < 0.9 * blind.counters.prefilled
