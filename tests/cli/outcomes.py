"""Made-up runs, with the shape of real ones, for tests of what is drawn from them."""

import numpy as np

from cascade_cli.report.study import Run, Setup, Study
from cascade_policy.profiles import profile
from cascade_simulator.outcome import Counters, Outcome, Samples, StageChange

SETUP = Setup(
    trace="mooncake",
    traffic="stationary",
    instances=8,
    profile="h100-8b",
    engine=profile("h100-8b"),
    requests=300,
    ttft_target_ms=2000,
    tpot_target_ms=50,
    transport="recompute",
    length_blind=frozenset({"round-robin", "least-work"}),
)


def outcome(policy: str, *, seed: int = 0, slowness: float = 1.0, stages: int = 1) -> Outcome:
    """A run of 300 requests on 8 instances; times grow with `slowness`."""
    random = np.random.default_rng(seed)
    size, instances, moments = 300, SETUP.instances, 500
    arrival = np.sort(random.uniform(0, 60_000, size))
    prompt = np.exp(random.normal(7, 1.3, size)).astype(np.int64) + 1
    output = random.integers(1, 500, size)
    first = arrival + slowness * (30 + prompt * 0.05 + random.exponential(200, size))
    end = first + (output - 1) * slowness * random.uniform(15, 40, size)
    stage = np.sort(random.permuted(np.arange(instances) % stages))
    shape = (moments, instances)
    return Outcome(
        policy=policy,
        workload="made up",
        instances=instances,
        arrival_ms=arrival,
        prompt=prompt,
        output=output,
        first_token_ms=first,
        end_ms=end,
        handovers=random.integers(0, 1 + (stages > 1), size),
        instance=random.integers(0, instances, size),
        counters=Counters(handovers=40, preemptions=3, steps=9000),
        samples=Samples(
            time_ms=np.linspace(0, 60_000, moments),
            sequences=random.poisson(10 + 5 * stage, shape),
            kv_use=np.clip(random.normal(0.3 + 0.1 * stage, 0.05, shape), 0, 1),
            prefill_share=random.uniform(0, 0.6, shape),
            waiting_prefill_ms=random.exponential(80 / (1 + stage), shape),
            stage=np.broadcast_to(stage, shape).astype(np.int64),
            front_queue=np.zeros(moments, dtype=np.int64),
        ),
        stage_changes=_changes(stages, instances),
    )


def study(
    policies: dict[str, int], *, loads: tuple[float, ...] = (0.7,), seeds: tuple[int, ...] = (1,)
) -> Study:
    """Runs of policies with so many stages each; later ones are a little faster."""
    runs = tuple(
        Run(policy, load, seed, outcome(policy, seed=seed, slowness=slowness, stages=stages))
        for load in loads
        for seed in seeds
        for position, (policy, stages) in enumerate(policies.items())
        for slowness in [(1 - 0.05 * position) / (1.1 - load)]
    )
    return Study(SETUP, runs)


def _changes(stages: int, instances: int) -> tuple[StageChange, ...]:
    if stages == 1:
        return (StageChange(0.0, (131_072,), (instances,)),)
    counts = (*(1 for _ in range(stages - 1)), instances - stages + 1)
    ends = (*(500 * 2**stage for stage in range(stages - 1)), 131_072)
    later = (*(700 * 2**stage for stage in range(stages - 1)), 131_072)
    return (StageChange(0.0, ends, counts), StageChange(20_000.0, later, counts))
