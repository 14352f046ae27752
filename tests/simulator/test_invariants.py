"""What holds whatever happens: no request is lost or doubled, and nothing is left behind."""

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade_simulator.cluster import simulate
from cascade_simulator.instance import SimulatedInstance
from cascade_simulator.options import Failure, Links, RunOptions
from cascade_simulator.outcome import Outcome
from cascade_simulator.policy import Fleet, Move, Resident, Transport
from cascade_simulator.workload import Request, Workload
from tests.simulator.builders import BY_HAND, Scripted

SMALL = replace(
    BY_HAND,
    heterogeneity=0.25,
    prefill_ms_per_token_squared=1e-4,
    chunk_tokens=64,
    kv_capacity_tokens=400,
    max_sequences=5,
    kv_bytes_per_token=1_000_000,
)
BLOCK = 32


class Chaos(Scripted):
    """Places and moves at random, sometimes not at all, and looks whether the books are right."""

    name = "chaos"

    def __init__(self, instances: int) -> None:
        super().__init__(instances, review_tokens=3, tick_ms=37.0)
        self.instances: tuple[SimulatedInstance, ...] = ()

    def place(self, sequence: Resident, fleet: Fleet) -> int | None:
        alive = [instance.index for instance in fleet.instances if instance.alive]
        if fleet.random() < 0.2:
            return None
        chosen = alive[int(fleet.random() * len(alive))]
        instance = fleet.instances[chosen]
        assert 0 <= instance.cached_tokens(sequence.request) < sequence.request.prompt
        assert instance.load.waiting_prefill_ms >= 0
        return chosen

    def review(self, sequence: Resident, fleet: Fleet) -> Move | None:
        return self._move(sequence, fleet) if fleet.random() < 0.5 else None

    def tick(self, fleet: Fleet) -> Iterator[Move]:
        view = fleet._real  # type: ignore[attr-defined]
        self.instances = cast("tuple[SimulatedInstance, ...]", view)
        for instance in self.instances:
            self._audit(instance, fleet)
        for instance in self.instances:
            for sequence in (*fleet.running(instance.index), *fleet.waiting(instance.index)):
                assert sequence.instance == instance.index
                if fleet.random() < 0.3:
                    yield self._move(sequence, fleet)

    def _move(self, sequence: Resident, fleet: Fleet) -> Move:
        transports = (None, *Transport)
        target = int(fleet.random() * len(fleet.instances))
        return Move(sequence.id, target, transports[int(fleet.random() * len(transports))])

    def _audit(self, instance: SimulatedInstance, fleet: Fleet) -> None:
        lengths = [sequence.length for sequence in instance.decodes]
        assert instance.decodes.count == len(lengths)
        assert instance.decodes.tokens == sum(lengths)
        assert instance.decodes.tokens_squared == sum(length * length for length in lengths)
        waiting = instance.prefills.waiting
        assert instance.waiting_tokens == sum(job.length for job in waiting)
        assert instance.load.sequences >= len(lengths) + len(waiting)
        assert 0 <= instance.load.prefill_share <= 0.9
        assert instance.alive or instance.load.sequences == 0
        assert fleet.now_ms > 0


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    lengths = st.tuples(st.floats(0, 400), st.integers(1, 300), st.integers(1, 40))
    rows = draw(st.lists(lengths, min_size=1, max_size=20))
    time = 0.0
    requests = []
    for gap, prompt, output in rows:
        time += gap
        # Two conversations, so that prompts have blocks in common.
        start = 1000 * draw(st.integers(0, 1))
        blocks = tuple(range(start, start + -(-prompt // BLOCK)))
        requests.append(Request(time, prompt, output, blocks))
    return Workload("drawn", tuple(requests), BLOCK)


@st.composite
def all_options(draw: st.DrawFn) -> RunOptions:
    begin = draw(st.floats(0, 2000))
    failure = Failure(0, begin, begin + draw(st.floats(1, 2000)))
    return RunOptions(
        links=Links(
            draw(st.sampled_from(Transport)),
            fixed_ms=draw(st.sampled_from([0.0, 5.0, 80.0])),
            bytes_per_ms=1e6,
            inbound=draw(st.integers(1, 2)),
        ),
        stale_ms=draw(st.sampled_from([0.0, 50.0])),
        prefix_cache=draw(st.booleans()),
        failures=(failure,) if draw(st.booleans()) else (),
        sample_ms=7.0,
    )


def play(work: Workload, instances: int, options: RunOptions) -> tuple[Chaos, Outcome]:
    policy = Chaos(instances)
    random = np.random.default_rng(9).random
    return policy, simulate(work, SMALL, instances, policy, options, random)


@given(work=workloads(), instances=st.integers(1, 3), options=all_options())
def test_every_request_ends_once_with_all_its_tokens(
    work: Workload, instances: int, options: RunOptions
) -> None:
    policy, outcome = play(work, instances, options)
    assert sorted(policy.ended) == list(range(len(work.requests)))
    assert (outcome.arrival_ms < outcome.first_token_ms).all()
    assert (outcome.first_token_ms <= outcome.end_ms).all()
    assert (outcome.instance >= 0).all()
    assert outcome.counters.handovers == outcome.handovers.sum()
    assert len(outcome.handover_gap_ms) <= outcome.counters.handovers
    assert (outcome.handover_gap_ms > 0).all()
    assert np.isfinite(outcome.end_ms).all()


@given(work=workloads(), instances=st.integers(1, 3), options=all_options())
def test_memory_is_never_overdrawn_and_all_of_it_comes_back(
    work: Workload, instances: int, options: RunOptions
) -> None:
    policy, outcome = play(work, instances, options)
    assert (outcome.samples.kv_use <= 1).all()
    assert (outcome.samples.kv_use >= 0).all()
    assert (outcome.samples.sequences >= 0).all()
    for instance in policy.instances:
        assert instance.memory.tokens == 0
        assert instance.inbound == 0
        assert not instance.memory._warm
        load = instance.load
        assert (load.sequences, load.kv_tokens, load.kv_tokens_squared) == (0, 0, 0)
        assert load.waiting_prefill_ms == 0


@given(work=workloads(), instances=st.integers(1, 3), options=all_options())
def test_what_is_computed_again_is_counted_as_such(
    work: Workload, instances: int, options: RunOptions
) -> None:
    _, outcome = play(work, instances, replace(options, prefix_cache=False))
    new = outcome.counters.prefilled - outcome.counters.recomputed
    # Whoever is computed again brings its newest token along, which no step has seen yet.
    assert outcome.prompt.sum() <= new <= (outcome.prompt + outcome.output).sum()


@given(work=workloads())
def test_without_moves_and_with_memory_for_all_each_prompt_is_computed_once(
    work: Workload,
) -> None:
    engine = replace(SMALL, kv_capacity_tokens=10_000)
    outcome = simulate(work, engine, 2, Scripted(2), RunOptions(), lambda: 0.5)
    assert outcome.counters.prefilled == outcome.prompt.sum()
    assert outcome.counters.recomputed == 0


@given(work=workloads(), options=all_options())
def test_equal_seeds_give_equal_runs(work: Workload, options: RunOptions) -> None:
    first, second = (play(work, 2, options)[1] for _ in range(2))
    assert first.counters == second.counters
    assert np.array_equal(first.end_ms, second.end_ms)
    assert np.array_equal(first.first_token_ms, second.first_token_ms)
    assert np.array_equal(first.samples.waiting_prefill_ms, second.samples.waiting_prefill_ms)


def test_a_policy_that_never_places_leaves_requests_unfinished() -> None:
    work = Workload("stuck", (Request(0.0, 10, 2), Request(5.0, 10, 2)))
    policy = Scripted(1, place=lambda sequence, _fleet: 0 if sequence.id else None)
    outcome = simulate(work, BY_HAND, 1, policy, RunOptions(), lambda: 0.5)
    assert np.isnan(outcome.end_ms[0])
    assert np.isnan(outcome.first_token_ms[0])
    assert outcome.instance.tolist() == [-1, 0]
    assert np.isfinite(outcome.end_ms[1])
    assert outcome.samples.front_queue[-1] == 1
    assert outcome.samples.time_ms[-1] == pytest.approx(60_000, rel=0.05)
