"""Plans and boundaries that follow the traffic."""

from dataclasses import replace

from cascade_simulator.policies.registry import make
from cascade_simulator.policy import Policy
from tests.simulator.policies.scripted import (
    Scripted,
    ScriptedFleet,
    arriving,
    even,
    fleet,
    setup,
    traffic,
)

SHORT = traffic([200, 250, 300], [300, 300, 300], per_second=60.0)
MIXED = traffic([200, 200, 12_000], [300, 300, 300], per_second=20.0)


def finish(policy: Policy, cluster: ScriptedFleet, prompts: list[int], per_second: float) -> None:
    """A minute of requests with these prompts and 300 tokens of output."""
    count = int(60 * per_second)
    for number in range(count):
        sequence: Scripted = arriving(prompts[number % len(prompts)], 300)
        sequence.generated = 300
        cluster.now_ms += 60_000.0 / count
        policy.finished(sequence, cluster)


def test_a_plan_follows_a_drift_of_the_mix() -> None:
    policy, cluster = make("cascade", setup(8)), fleet(*[even(2, 500)] * 8)
    assert policy.stages()[0] == (16_384,)
    finish(policy, cluster, [200, 200, 12_000], per_second=20.0)
    assert list(policy.tick(cluster)) == []
    ends, stages = policy.stages()
    assert len(ends) > 1
    assert ends[0] < 12_000
    assert sorted(stages) == list(stages)


def test_a_plan_waits_for_its_interval_and_for_enough_requests() -> None:
    policy, cluster = make("cascade", setup(8)), fleet(*[even(2, 500)] * 8)
    finish(policy, cluster, [200, 200, 12_000], per_second=1.0)
    list(policy.tick(cluster))
    assert policy.stages()[0] == (16_384,)


def test_a_plan_that_gains_little_is_not_applied() -> None:
    patient = replace(setup(8), min_gain_percent=99.0)
    policy, cluster = make("cascade", patient), fleet(*[even(2, 500)] * 8)
    finish(policy, cluster, [200, 200, 12_000], per_second=20.0)
    list(policy.tick(cluster))
    assert policy.stages()[0] == (16_384,)


def test_instances_with_the_longest_sequences_serve_the_longest_lengths() -> None:
    policy = make("cascade", setup(8))
    cluster = fleet(*[even(2, 9000 if index in (1, 4) else 300) for index in range(8)])
    finish(policy, cluster, [200, 200, 12_000], per_second=20.0)
    list(policy.tick(cluster))
    ends, stages = policy.stages()
    assert stages[1] == stages[4] == len(ends) - 1


def test_a_static_cascade_keeps_its_plan_unless_it_replans() -> None:
    known = setup(8, MIXED)
    for name, changes in (("cascade-hard", False), ("cascade-hard+replan", True)):
        policy, cluster = make(name, known), fleet(*[even(2, 500)] * 8)
        before = policy.stages()
        finish(policy, cluster, [2000, 2500, 3000], per_second=40.0)
        list(policy.tick(cluster))
        assert (policy.stages() != before) is changes, name


def test_the_price_without_stages_learns_lengths_and_never_splits() -> None:
    policy, cluster = make("price", setup(8)), fleet(*[even(2, 500)] * 8)
    finish(policy, cluster, [200, 200, 12_000], per_second=20.0)
    list(policy.tick(cluster))
    assert policy.stages()[0] == (16_384,)


def test_refinement_moves_boundaries_and_keeps_counts() -> None:
    policy, cluster = make("cascade-refined", setup(8, MIXED)), fleet(*[even(2, 500)] * 8)
    ends, stages = policy.stages()
    finish(policy, cluster, [400, 400, 12_000], per_second=20.0)
    list(policy.tick(cluster))
    assert policy.stages()[0] != ends
    assert policy.stages()[1] == stages


def test_the_load_ratio_lowers_the_boundary_of_a_stage_that_is_twice_as_loaded() -> None:
    policy = make("cascade-ratio", setup(8, MIXED))
    (first, *_), stages = policy.stages()
    busy, quiet = even(40, 300, waiting=9000.0), even(1, 300)
    cluster = fleet(*[busy if stage == 0 else quiet for stage in stages])
    cluster.now_ms = 2000.0
    list(policy.tick(cluster))
    assert policy.stages()[0][0] == round(first / 1.04)
    cluster = fleet(*[quiet if stage == 0 else busy for stage in stages])
    cluster.now_ms = 4000.0
    list(policy.tick(cluster))
    assert policy.stages()[0][0] == round(round(first / 1.04) * 1.04)
