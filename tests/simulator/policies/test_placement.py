"""Who gets a request that arrives, policy by policy, on small scripted fleets."""

import pytest

from cascade_planner.partition import Partition
from cascade_policy.load import IDLE, InstanceLoad
from cascade_simulator.policies.registry import make
from tests.simulator.policies.scripted import (
    One,
    ScriptedFleet,
    arriving,
    even,
    fleet,
    setup,
    traffic,
)

QUIET = even(2, 500)
BUSY = even(40, 500)
LONG = even(4, 10_000)
QUEUED = even(2, 500, waiting=900.0)
PREFILLING = even(2, 500, share=0.8)
FULL = even(44, 10_000)

# Half of the requests are short, half are long, and few of them grow from one kind to the other.
MIXED = traffic([200, 200, 12_000], [300, 300, 300], per_second=20.0)


@pytest.mark.parametrize(
    ("policy", "loads", "winner"),
    [
        pytest.param("least-requests", [BUSY, LONG, QUIET], 2, id="least-requests counts"),
        pytest.param("least-tokens", [LONG, BUSY, QUIET], 2, id="least-tokens weighs"),
        pytest.param(
            "least-tokens", [BUSY, LONG], 0, id="least-tokens takes many short ones over few long"
        ),
        pytest.param("least-work", [QUEUED, BUSY], 1, id="least-work avoids a prefill queue"),
        pytest.param("least-work", [BUSY, QUIET], 1, id="least-work avoids a large batch"),
        pytest.param(
            "least-work", [PREFILLING, QUIET], 0, id="least-work does not know of past prefill"
        ),
        pytest.param("llumnix", [LONG, BUSY], 0, id="llumnix divides free memory by the requests"),
        pytest.param("llumnix", [FULL, BUSY], 1, id="llumnix avoids full memory"),
        pytest.param("price", [PREFILLING, QUIET], 1, id="the price knows of past prefill"),
        pytest.param("price", [QUEUED, BUSY], 1, id="the price avoids a prefill queue"),
        pytest.param("price", [FULL, QUEUED], 1, id="the price is infinite without room"),
    ],
)
def test_a_request_of_800_tokens_goes_to(
    policy: str, loads: list[InstanceLoad], winner: int
) -> None:
    assert make(policy, setup(len(loads))).place(arriving(800), fleet(*loads)) == winner


def test_round_robin_passes_over_the_dead() -> None:
    policy, cluster = make("round-robin", setup(3)), fleet(IDLE, IDLE, IDLE)
    cluster.instances[1].alive = False
    assert [policy.place(arriving(10), cluster) for _ in range(4)] == [0, 2, 0, 2]


def test_random_follows_the_draw() -> None:
    policy, cluster = make("random", setup(4)), fleet(IDLE, IDLE, IDLE, IDLE)
    chosen = []
    for draw in (0.0, 0.3, 0.99):
        cluster.draw = draw
        chosen.append(policy.place(arriving(10), cluster))
    assert chosen == [0, 1, 3]


@pytest.mark.parametrize("name", ["random", "least-work", "llumnix", "cascade", "cascade-overflow"])
def test_nobody_gets_it_when_all_are_dead(name: str) -> None:
    cluster = ScriptedFleet([One(0, alive=False), One(1, alive=False)])
    assert make(name, setup(2)).place(arriving(10), cluster) is None


class TestStickiness:
    def test_a_session_stays_however_busy_its_instance_gets(self) -> None:
        policy = make("sticky", setup(2))
        assert policy.place(arriving(10, session=7), fleet(QUIET, BUSY)) == 0
        assert policy.place(arriving(10, session=7), fleet(FULL, QUIET)) == 0

    def test_a_session_whose_instance_died_finds_a_new_home(self) -> None:
        policy, cluster = make("sticky", setup(2)), fleet(QUIET, BUSY)
        policy.place(arriving(10, session=7), cluster)
        cluster.instances[0].alive = False
        assert policy.place(arriving(10, session=7), cluster) == 1
        cluster.instances[0].alive = True
        assert policy.place(arriving(10, session=7), cluster) == 1

    def test_requests_without_a_session_go_where_the_least_work_is(self) -> None:
        policy = make("sticky", setup(2))
        assert policy.place(arriving(10), fleet(QUIET, BUSY)) == 0
        assert policy.place(arriving(10), fleet(BUSY, QUIET)) == 1


class TestPrefixKnowledge:
    @pytest.mark.parametrize("name", ["least-work", "price"])
    def test_a_cached_prefix_outweighs_some_load_only_for_those_who_know(self, name: str) -> None:
        cluster = fleet(even(3, 500), even(2, 500))
        cluster.instances[0].cached = 7_500
        assert make(name, setup(2)).place(arriving(8_000), cluster) == 1
        assert make(f"{name}+prefix", setup(2)).place(arriving(8_000), cluster) == 0


class TestSplits:
    def test_a_static_split_sends_long_prompts_to_the_last_instances(self) -> None:
        policy = make("static-split", setup(8, MIXED))
        ends, stages = policy.stages()
        cluster = fleet(*[IDLE] * 8)
        short, long = policy.place(arriving(100), cluster), policy.place(arriving(16_000), cluster)
        assert short is not None
        assert long is not None
        assert stages[short] == 0
        assert stages[long] == len(ends) - 1 > 0

    def test_without_known_traffic_there_is_nothing_to_split(self) -> None:
        assert make("static-split", setup(8)).stages() == ((16_384,), (0,) * 8)

    def test_a_pool_spills_over_when_it_is_overloaded_and_the_other_is_not(self) -> None:
        policy = make("dual-pool", setup(2, MIXED))
        assert policy.stages()[1] == (0, 1)
        assert policy.place(arriving(100), fleet(BUSY, QUIET)) == 0
        assert policy.place(arriving(100), fleet(FULL, QUIET)) == 1
        assert policy.place(arriving(100), fleet(FULL, FULL)) == 0
        assert policy.place(arriving(13_000), fleet(QUIET, even(2, 500, waiting=2_500.0))) == 0


class TestCascades:
    def test_hard_stages_do_not_look_elsewhere(self) -> None:
        policy = make("cascade-hard", setup(8, MIXED))
        stages = policy.stages()[1]
        last = stages.index(max(stages))
        cluster = fleet(*[QUIET if stage else BUSY for stage in stages])
        placed = policy.place(arriving(200), cluster)
        assert placed is not None
        assert stages[placed] == 0 != stages[last]

    def test_an_empty_stage_falls_to_its_neighbour(self) -> None:
        policy = make("cascade-hard", setup(8, MIXED))
        stages = policy.stages()[1]
        cluster = fleet(*[IDLE] * 8)
        for index, stage in enumerate(stages):
            cluster.instances[index].alive = stage > 0
        placed = policy.place(arriving(200), cluster)
        assert placed is not None
        assert stages[placed] == 1

    @pytest.mark.parametrize("name", ["cascade-overflow", "cascade"])
    def test_overflow_and_soft_boundaries_leave_a_stage_that_is_much_dearer(
        self, name: str
    ) -> None:
        policy = make(name, setup(8, MIXED))
        stages = policy.stages()[1]
        crowded = even(60, 400, waiting=1_500.0)
        cluster = fleet(*[QUIET if stage else crowded for stage in stages])
        placed = policy.place(arriving(200), cluster)
        assert placed is not None
        assert stages[placed] == 1

    @pytest.mark.parametrize("name", ["cascade-overflow", "cascade"])
    def test_a_small_difference_stays_at_home(self, name: str) -> None:
        policy = make(name, setup(8, MIXED))
        stages = policy.stages()[1]
        cluster = fleet(*[even(10, 400) if stage else even(11, 400) for stage in stages])
        placed = policy.place(arriving(200), cluster)
        assert placed is not None
        assert stages[placed] == 0

    def test_all_begin_with_the_plan_for_the_known_traffic(self) -> None:
        described = {
            make(name, setup(8, MIXED)).stages()
            for name in ("cascade", "cascade-hard", "cascade-refined", "cascade-overflow")
        }
        assert len(described) == 1
        ((ends, stages),) = described
        assert len(ends) > 1
        Partition(ends, tuple(stages.count(stage) for stage in range(len(ends))))
