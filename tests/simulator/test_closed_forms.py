"""The simulator against formulas that know nothing of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from cascade_policy.engine_model import EngineModel
from cascade_policy.profiles import profile
from cascade_simulator.outcome import Outcome
from cascade_simulator.policy import Fleet, Resident
from cascade_simulator.summary import in_window
from cascade_simulator.workload import Request, Workload
from cascade_simulator.workloads import rate_for, stationary
from e2e.traces.trace import read_trace
from tests.simulator.builders import BY_HAND, Scripted, run

CHUNK_MS = BY_HAND.base_ms + BY_HAND.chunk_tokens * BY_HAND.prefill_ms_per_token


def poisson(name: str, prompts: list[int], mean_gap_ms: float, output: int = 1) -> Workload:
    times = np.cumsum(np.random.default_rng(11).exponential(mean_gap_ms, len(prompts)))
    rows = zip(times.tolist(), prompts, strict=True)
    return Workload(name, tuple(Request(time, prompt, output) for time, prompt in rows))


def waits(outcome: Outcome) -> float:
    """Mean time before the service of prompts that take whole chunks."""
    services = outcome.prompt / BY_HAND.chunk_tokens * CHUNK_MS
    return float(np.mean(outcome.ttft_ms - services))


@pytest.mark.parametrize("use", [0.3, 0.6, 0.8])
def test_prompts_of_one_chunk_wait_as_in_an_m_d_1_queue(use: float) -> None:
    outcome = run(poisson("M/D/1", [BY_HAND.chunk_tokens] * 30_000, CHUNK_MS / use))
    # Pollaczek and Khinchine, without variance of the service time.
    assert waits(outcome) == pytest.approx(use * CHUNK_MS / (2 * (1 - use)), rel=0.08)


def test_prompts_of_several_chunks_wait_as_in_an_m_g_1_queue() -> None:
    use = 0.7
    chunks = np.random.default_rng(12).choice([1, 2, 10], p=[0.6, 0.3, 0.1], size=30_000)
    service = chunks * CHUNK_MS
    outcome = run(poisson("M/G/1", (chunks * BY_HAND.chunk_tokens).tolist(), service.mean() / use))
    expected = use * np.mean(service**2) / (2 * service.mean() * (1 - use))
    assert waits(outcome) == pytest.approx(expected, rel=0.08)


def least_tokens(_sequence: Resident, fleet: Fleet) -> int:
    return min(fleet.instances, key=lambda instance: instance.load.kv_tokens).index


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.85])
def test_the_mean_step_of_a_pool_is_that_of_the_fluid_model(load: float) -> None:
    """T = C0 / (1 - rho_d - sigma): a step absorbs the decoding and prefill that come in it."""
    model, instances = replace(profile("h100-8b"), heterogeneity=0.0), 8
    rows = read_trace("azure")
    trace = [Request(row.arrival * 1000, row.prompt_tokens, row.output_tokens) for row in rows]
    per_ms = rate_for(trace, model, instances, load)
    work = stationary("azure", trace, round(100_000 * per_ms), per_ms, np.random.default_rng(4))
    outcome = run(work, Scripted(instances, place=least_tokens), model, instances)
    chosen = in_window(outcome, (0.4, 0.9))
    decoding = (outcome.end_ms - outcome.first_token_ms)[chosen].sum()
    tokens = (outcome.output - 1)[chosen].sum()
    # What came, rather than what was to come: near saturation a percent of load is much time.
    came = [one for one, counts in zip(work.requests, chosen, strict=True) if counts]
    rate = len(came) / (0.5 * work.duration_ms) / instances
    assert decoding / tokens == pytest.approx(fluid_step_ms(came, rate, model), rel=0.05)


def fluid_step_ms(trace: Sequence[Request], per_ms: float, model: EngineModel) -> float:
    prompts = np.array([one.prompt for one in trace], dtype=np.float64)
    outputs = np.array([one.output for one in trace], dtype=np.float64)
    prefill = model.prefill_ms_per_token * prompts + (
        model.prefill_ms_per_token_squared * prompts**2 / 2
    )
    decode = (outputs - 1) * (
        model.per_sequence_ms + model.per_kv_token_ms * (prompts + outputs / 2)
    )
    return model.base_ms / (1 - per_ms * float(prefill.mean() + decode.mean()))
