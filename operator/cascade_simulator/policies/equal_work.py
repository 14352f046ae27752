"""Stages that share the work equally: a split by length without a plan."""

import numpy as np
from numpy.typing import NDArray

from cascade_planner.partition import Partition
from cascade_planner.traffic import Traffic
from cascade_policy.engine_model import EngineModel
from cascade_simulator.policies.setup import Setup
from cascade_simulator.policies.staging import one_stage

Floats = NDArray[np.float64]


def equal_work(setup: Setup, stages: int) -> Partition:
    """At most `stages` stages, cut where equal work lies below; instances in proportion to work.

    Work is that of whole requests by their prompts, because sequences mostly stay where they begin.
    One stage when no traffic is known or it is too even to be cut.
    """
    if setup.traffic is None or stages < 2:
        return one_stage(setup)
    bounds = [int(bound) for bound in setup.traffic.bounds[1:]]
    below = _work_below(setup.traffic, setup.engine, bounds)
    shares = np.arange(1, stages) / stages * below[-1]
    cuts = sorted({int(np.argmin(np.abs(below - share))) for share in shares} | {len(bounds) - 1})
    work = np.diff([0.0, *below[cuts]])
    return Partition(tuple(bounds[cut] for cut in cuts), _in_proportion(setup.instances, work))


def _in_proportion(instances: int, work: Floats) -> tuple[int, ...]:
    """At least one instance for each stage, each further one where most work is left for one."""
    counts = np.ones(len(work), dtype=np.int64)
    for _ in range(instances - len(work)):
        counts[int(np.argmax(work / counts))] += 1
    return tuple(counts.tolist())


def _work_below(traffic: Traffic, engine: EngineModel, lengths: list[int]) -> Floats:
    """Ms of work per second of requests with prompts up to each of `lengths`: prefill, and the
    marginal time of a mean output."""
    load, output = traffic.load_up_to(lengths), traffic.output_mean
    prefill = engine.prefill_ms_per_token * load.prefill[0] + (
        engine.prefill_ms_per_token_squared / 2 * load.prefill[1]
    )
    decode = output * (
        load.arrivals * engine.sequence_ms(output / 2) + load.prompts * engine.per_kv_token_ms
    )
    return np.asarray(prefill + decode, dtype=np.float64)
